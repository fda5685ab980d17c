"""``python -m harness.ssl.measure THREADS DEVICE``: seconds a step, an image's features and a start, for a plan.

Reads ``{"plugins": [file, ...], "kinds": [{"key", "channels", "cell"}, ...]}`` from standard input and prints
``{key: {sample, feature, start}}``.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

STARTED = time.perf_counter()  # before torch is imported: every cell pays for that

import torch  # noqa: E402

from harness import plugins  # noqa: E402
from harness.cell import Cell, from_dict  # noqa: E402
from harness.ssl import methods, models, optim  # noqa: E402
from harness.ssl.data import views  # noqa: E402
from harness.ssl.distributed import World  # noqa: E402
from harness.ssl.evaluate.features import normalized  # noqa: E402
from harness.ssl.losses.arguments import trusted_values  # noqa: E402
from harness.ssl.methods.batch import Batch  # noqa: E402

WARM_UP, COUNTED, ENOUGH_SECONDS = 2, 10, 3.0


def measure(cell: Cell, channels: int, device: torch.device) -> dict[str, float]:
    """Median seconds of one random image's part of a whole step (views included), and of its features."""
    size, batch = cell.dataset.image_size, cell.batch_size
    network = models.build(cell, channels)
    method = methods.build(cell, network, batch, World()).to(device)
    optimizer = optim.build(cell.optimizer, method.parameters())
    images = torch.randint(0, 256, (2 * batch, channels, size, size), dtype=torch.uint8, device=device)
    draws = torch.rand(2 * batch, views.columns(cell.views), device=device)
    mean, std = torch.full((channels,), 0.5, device=device), torch.ones(channels, device=device)
    rows = torch.arange(batch, device=device)

    def step() -> None:
        pixels = normalized(views.augment(images, draws, cell.views), mean, std)
        taken = Batch(pixels.unflatten(0, (2, -1)), rows, seed=0, step=0)
        comparison = method(taken)
        optimizer.zero_grad(set_to_none=True)
        comparison.loss.backward()
        optimizer.step()
        method.after_step(taken, comparison)

    def embed() -> None:
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=cell.precision == "bf16"):
            network.encoder(normalized(images.float() / 255, mean, std))

    return {"sample": _median_seconds(step, device) / batch, "feature": _median_seconds(embed, device) / len(images)}


def _median_seconds(work: Callable[[], None], device: torch.device) -> float:
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < WARM_UP + COUNTED and sum(seconds) < ENOUGH_SECONDS):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[min(WARM_UP, len(seconds) - 1) :])


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    device = torch.device(sys.argv[2])
    start = time.perf_counter() - STARTED
    costs = {}
    asked = json.load(sys.stdin)
    plugins.register(asked["plugins"])
    for request in asked["kinds"]:
        cell = from_dict(Cell, request["cell"])
        with trusted_values():
            costs[request["key"]] = {**measure(cell, request["channels"], device), "start": start}
    json.dump(costs, sys.stdout)


if __name__ == "__main__":
    main()
