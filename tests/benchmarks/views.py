"""Two-view samples per second of the augmentation, beside torchvision's per-image transforms.

``python -m tests.benchmarks.views``: batches of 256 samples (fewer of large images) on two threads. Both sides take
turns in one run; printed are medians, and the ratio of the two. Images are decoded, and torchvision works on float
tensors, as the batched code does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

import harness.ssl  # noqa: F401  (mends torchvision's import)
from harness.cell import Views
from harness.ssl.data.augment import augment
from harness.ssl.data.augmentation_parameters import columns, resolve
from harness.ssl.runtime.malloc import keep_freed_memory

# isort: split
from torchvision.transforms import v2

#: Name -> views, channels, side, samples.
CASES = {
    "28x28x1": (Views(), 1, 28, 256),
    "32x32x3": (Views(), 3, 32, 256),
    "32x32x3, crop and flip": (Views(jitter=0.0, gray=0.0), 3, 32, 256),
    "32x32x3, blur .5": (Views(blur=0.5), 3, 32, 256),
    "96x96x3": (Views(), 3, 96, 64),
    "224x224x3": (Views(), 3, 224, 16),
}
TURNS, PER_TURN, BY_TORCHVISION = 5, 6, 16


def by_torchvision(views: Views, channels: int, side: int) -> Callable[[torch.Tensor], torch.Tensor]:
    reach = 0.8 * views.jitter
    jitter = v2.ColorJitter(reach, reach, reach, 0.2 * views.jitter)
    kernel = 2 * max(1, side // 10 // 2) + 1
    steps = [
        v2.RandomResizedCrop(side, scale=(views.crop_min, 1), antialias=True),
        v2.RandomHorizontalFlip(views.flip),
        *([v2.RandomApply([jitter], 0.8)] if views.jitter else []),
        *([v2.RandomGrayscale(views.gray)] if views.gray and channels == 3 else []),
        *([v2.RandomApply([v2.GaussianBlur(kernel, (0.1, 2.0))], views.blur)] if views.blur else []),
    ]
    transform: Callable[[torch.Tensor], torch.Tensor] = v2.Compose(steps)
    return transform


def seconds(function: Callable[[], object], times: int) -> list[float]:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return taken


def main() -> None:
    torch.set_num_threads(2)
    keep_freed_memory()
    print(f"{'samples/s':24} {'batched':>9} {'torchvision':>12} {'ratio':>6}")
    for name, (views, channels, side, samples) in CASES.items():
        images = torch.randint(0, 256, (samples, channels, side, side), dtype=torch.uint8)
        recipe = resolve(torch.rand(2, samples, columns(views)), views, channels, side, side)
        transform = by_torchvision(views, channels, side)

        def batched(images: torch.Tensor = images, recipe: torch.Tensor = recipe, views: Views = views) -> torch.Tensor:
            return augment(images, recipe, views)

        def one_by_one(
            images: torch.Tensor = images, transform: Callable[[torch.Tensor], torch.Tensor] = transform
        ) -> torch.Tensor:
            return torch.stack([transform(image / 255) for image in images[:BY_TORCHVISION] for _ in range(2)])

        batched(), one_by_one()
        ours, theirs = [], []
        for _ in range(TURNS):
            ours += seconds(batched, PER_TURN)
            theirs += seconds(one_by_one, 1)
        rate, other = samples / statistics.median(ours), min(samples, BY_TORCHVISION) / statistics.median(theirs)
        print(f"{name:24} {rate:9,.0f} {other:12,.0f} {rate / other:6.1f}")


if __name__ == "__main__":
    main()
