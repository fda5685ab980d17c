"""Two augmented views of streamed images, normalised and ready: ours, and torchvision's usual pipeline.

    python -m tests.benchmarks.stream FOLDER

FOLDER is an image folder (train/<class>/*.jpg and val/). Both sides have the same two cores, theirs for the two
workers of a DataLoader. They alternate; medians over rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, SubsetRandomSampler

from harness.cell import Dataset, Views
from harness.datasets import find
from harness.ssl.data import augmentation_parameters
from harness.ssl.data.sources import load
from harness.ssl.data.split import Data
from harness.ssl.evaluate.features import normalized
from harness.ssl.runtime.malloc import keep_freed_memory

CORES, BATCH = 2, 64
SIMCLR = Views(crop_min=0.08, flip=0.5, jitter=1.0, gray=0.2, blur=0.5)  # for ImageNet

Pipeline = Callable[[list[int]], Iterator[list[Tensor]]]


def ours(data: Data) -> Pipeline:
    draws = augmentation_parameters.draw(0, 0, len(data.train), SIMCLR)

    def batches(rows: list[int]) -> Iterator[list[Tensor]]:
        with closing(data.train.iter_views(torch.tensor(rows).split(BATCH), draws, SIMCLR)) as shares:
            for share in shares:
                yield [normalized(view, data.mean, data.std) for view in share(slice(None))]

    return batches


def torchvisions(folder: Path, data: Data, side: int) -> Pipeline:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    view = v2.Compose(
        [
            v2.RandomResizedCrop(side, scale=(SIMCLR.crop_min, 1)),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
            v2.RandomGrayscale(SIMCLR.gray),
            v2.RandomApply([v2.GaussianBlur(side // 10 // 2 * 2 + 1, (0.1, 2.0))], SIMCLR.blur),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(data.mean.tolist(), data.std.tolist()),
        ]
    )
    images = ImageFolder(str(folder / "train"), lambda image: [view(image), view(image)])

    def batches(rows: list[int]) -> Iterator[list[Tensor]]:
        # The sampler draws an order of its own, of the same images.
        loader = DataLoader(images, BATCH, sampler=SubsetRandomSampler(data.train.rows[rows]), num_workers=CORES)
        for pixels, _ in loader:
            yield pixels

    return batches


def rate(pipeline: Pipeline, rows: list[int]) -> float:
    begun = time.perf_counter()
    count = sum(len(first) for first, _ in pipeline(rows))
    return count / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--images", type=int, default=512, help="a round")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    torch.set_num_threads(CORES)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        begun = time.perf_counter()
        dataset = Dataset("imagefolder", asked.side, 0.1, find("imagefolder", str(asked.folder)).fingerprint, True)
        data = load(dataset, str(asked.folder))
        print(f"{len(data.train):,} training images packed and read once: {time.perf_counter() - begun:.1f} s")
        rows = torch.randperm(len(data.train))[: asked.images].tolist()
        sides = {"ours": ours(data), "torchvision": torchvisions(asked.folder, data, asked.side)}
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for pipeline in sides.values():
            rate(pipeline, rows[:BATCH])  # not counted: what is done once
        for _ in range(asked.rounds):
            for name, pipeline in sides.items():
                rates[name].append(rate(pipeline, rows))
                print(f"  {name}: {rates[name][-1]:.1f} images/s", flush=True)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print(", ".join(f"{name} {median:.1f} images/s" for name, median in medians.items()))
    print(f"ratio {medians['ours'] / medians['torchvision']:.2f}")


if __name__ == "__main__":
    main()
