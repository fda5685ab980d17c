"""Whether the fast path costs accuracy: kNN of cells as they are trained here, beside a plain pipeline.

    python tests/benchmarks/paired_accuracy.py FOLDER [--dataset cifar10] [--train 10000] [--epochs 3] [--seeds 5]

Fast: the training loop in bf16, with views made batch by batch. Plain: each image on its own through torchvision's v2
transforms of PIL images, in two workers, and everything in float32. Both have the same net with the same initial
weights, the same images in the same order, loss, optimiser and learning rates; views come from the same distribution.
Both are judged by the cell's own last test.

Results are appended to --out, a line for each side and seed; what stands there with the same settings is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset

from harness.cell import Backbone, Cell, Optimizer
from harness.cell import Dataset as Declared
from harness.datasets import find
from harness.evaluation import Evaluation
from harness.random_streams import permutation
from harness.ssl import losses, models, optim
from harness.ssl.data import sources
from harness.ssl.data.augmentation_parameters import JITTER_PROBABILITY
from harness.ssl.data.split import Data
from harness.ssl.distributed import World
from harness.ssl.evaluate.protocol import judge
from harness.ssl.runtime.malloc import keep_freed_memory
from harness.ssl.train import Trainer
from harness.store.heartbeat import Heartbeat
from harness.store.record import Record

#: lightly's kNN protocol, as the laptop scales have it; the curve is not of interest.
EVALUATION = Evaluation(knn_k=200, knn_temperature=0.1, every=10_000, curve_bank=500)
SIDES = ("fast", "plain")


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Two views of each image, each drawn by torchvision."""

    def __init__(self, cell: Cell, data: Data) -> None:
        from torchvision.transforms import v2  # not before harness.ssl has mended torchvision

        views = cell.views
        bright, hue = 0.8 * views.jitter, 0.2 * views.jitter
        self.images = data.train.images.permute(0, 2, 3, 1).numpy()
        self.transform = v2.Compose([
            v2.ToPILImage(),
            v2.RandomResizedCrop(cell.dataset.image_size, scale=(views.crop_min, 1.0)),
            v2.RandomHorizontalFlip(views.flip),
            v2.RandomApply([v2.ColorJitter(bright, bright, bright, hue)], JITTER_PROBABILITY),
            v2.RandomGrayscale(views.gray),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(data.mean.tolist(), data.std.tolist()),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.images[index]), self.transform(self.images[index])


def fast(cell: Cell, data: Data) -> Mapping[str, float]:
    with TemporaryDirectory() as folder:
        attempt = Record.prepare(Path(folder), cell).begin()
        with Heartbeat(attempt) as heartbeat:
            run = Trainer(cell, data, EVALUATION, attempt, heartbeat, torch.device("cpu"), World())
            return run.train().metrics


def plain(cell: Cell, data: Data) -> Mapping[str, float]:
    cell = replace(cell, precision="fp32")
    network, loss = models.build(cell, data.channels), losses.bind(cell.loss)
    optimizer = optim.build(cell.optimizer, network.parameters())
    per_epoch = len(data.train) // cell.batch_size
    warmup = round(cell.optimizer.warmup_epochs * per_epoch)
    peak = optim.peak_lr(cell.optimizer, cell.batch_size)
    torch.manual_seed(cell.seed)  # of the workers' draws
    for step, (first, second) in enumerate(batches(cell, data)):
        optimizer.param_groups[0]["lr"] = optim.lr_at(cell.optimizer, step, cell.epochs * per_epoch, warmup, peak)
        z1, z2 = normalize(network(torch.cat([first, second])), dim=1).chunk(2)
        optimizer.zero_grad()
        loss(z1, z2).backward()
        optimizer.step()
    return {f"test_{name}": value for name, value in judge(network.encoder, data, EVALUATION, "fp32").items()}


def batches(cell: Cell, data: Data) -> Iterator[tuple[Tensor, Tensor]]:
    """Of all epochs, in the cell's order."""
    images, kept = Images(cell, data), len(data.train) // cell.batch_size * cell.batch_size
    for epoch in range(cell.epochs):
        order = permutation(cell.seed, "order", len(images), epoch)[:kept].tolist()
        yield from DataLoader(images, cell.batch_size, sampler=order, num_workers=2)


def subset(data: Data, train: int) -> Data:
    """The first images of a fixed order; all test images."""
    rows = torch.from_numpy(permutation(0, "subset", len(data.train)))[:train]
    taken = data.train.take(rows)
    return replace(data, train=taken, bank=taken, validation=data.validation.take(torch.arange(512)))


def report(found: Mapping[tuple[str, int], float], seeds: int) -> None:
    pairs = [tuple(found[side, seed] for side in SIDES) for seed in range(seeds)]
    for seed, (own, other) in enumerate(pairs):
        print(f"seed {seed}: fast {own:.2f} %, plain {other:.2f} %, difference {own - other:+.2f}")
    if seeds > 1:
        differences = [own - other for own, other in pairs]
        mean, error = statistics.mean(differences), statistics.stdev(differences) / math.sqrt(seeds)
        half = float(stats.t.ppf(0.975, seeds - 1)) * error
        spread = ", ".join(
            f"{side} {statistics.stdev(values):.2f}"
            for side, values in zip(SIDES, zip(*pairs, strict=True), strict=True)
        )
        print(f"mean difference {mean:+.2f} points, 95 % t interval {mean - half:+.2f} to {mean + half:+.2f}")
        print(f"standard deviation over seeds: {spread}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", help="the folder of the images, as dataset.root names it")
    parser.add_argument("--dataset", default="imagefolder")
    parser.add_argument("--train", type=int, default=10_000, help="so many training images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("paired_accuracy.jsonl"))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed_memory()
    fingerprint = find(asked.dataset, asked.root).fingerprint
    declared = Declared(asked.dataset, 32, fingerprint=fingerprint)
    cell = Cell(
        dataset=declared, backbone=Backbone("resnet18", 16), optimizer=Optimizer(warmup_epochs=0.5), precision="bf16",
        epochs=asked.epochs,
    )  # fmt: skip
    data = subset(sources.load(declared, asked.root), asked.train)
    settings: dict[str, Any] = {"train": asked.train, "cell": asdict(cell)}
    lines = asked.out.read_text().splitlines() if asked.out.exists() else []
    known = [line for line in map(json.loads, lines) if line["settings"] == settings]
    found = {(line["side"], line["seed"]): line["metrics"]["test_knn"] for line in known}
    for seed in range(asked.seeds):
        for side, run in zip(SIDES, (fast, plain), strict=True):
            if (side, seed) not in found:
                begun = time.monotonic()
                metrics = run(replace(cell, seed=seed), data)
                line = {"side": side, "seed": seed, "metrics": dict(metrics), "settings": settings}
                with asked.out.open("a") as file:
                    print(json.dumps({**line, "seconds": time.monotonic() - begun}), file=file)
                found[side, seed] = metrics["test_knn"]
                print(
                    f"seed {seed}, {side}: kNN {found[side, seed]:.2f} %, {time.monotonic() - begun:.0f} s", flush=True
                )
    report(found, asked.seeds)


if __name__ == "__main__":
    main()
