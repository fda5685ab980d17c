"""SimCLR on images of CIFAR-10's shape, here and with lightly: samples/s (a sample is two views), both in one run.

    python tests/benchmarks/lightly_side_by_side.py [--rounds 3] [--steps 8]

lightly: its SimCLR transform as it advises for CIFAR (colour strength .5, no blur: the same views as here), torch's
DataLoader with two workers, its NT-Xent, fp32. Both sides: ResNet-18 of width 16 with the same projector, batch 256,
SGD. Here: one cell in fp32 and in bf16, and cells side by side, one thread each. The sides take turns; medians.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from harness.ssl import models, optim
from harness.ssl.measure import throughput
from harness.ssl.runtime.malloc import keep_freed_memory

CELL = throughput.RESNET
FP32 = replace(CELL, precision="fp32")
#: Before the clock starts: until then workers fill their queue.
WARM_UP = 4


class Images(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, count: int) -> None:
        from lightly.transforms import SimCLRTransform  # not before harness.ssl has mended torchvision

        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator).numpy()
        self.transform = SimCLRTransform(
            input_size=32, cj_strength=CELL.views.jitter, gaussian_blur=0.0, min_scale=CELL.views.crop_min
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        first, second = self.transform(Image.fromarray(self.pixels[index]))
        return first, second


def lightly(steps: int) -> Callable[[], float]:
    """A round: workers start, and end before the other side's turn."""
    from lightly.loss import NTXentLoss

    network = models.build(FP32, 3).to(memory_format=torch.contiguous_format)
    optimizer = optim.build(FP32.optimizer, network.parameters())
    loss_of = NTXentLoss(temperature=FP32.loss.temperature)
    images = Images((WARM_UP + steps + 6) * FP32.batch_size)  # they stay busy until the clock has stopped

    def rate() -> float:
        loader = iter(DataLoader(images, FP32.batch_size, shuffle=True, drop_last=True, num_workers=2))
        for number in range(WARM_UP + steps):
            if number == WARM_UP:
                begun = time.perf_counter()
            first, second = next(loader)
            loss = loss_of(network(first, views=1), network(second, views=1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return steps * FP32.batch_size / (time.perf_counter() - begun)

    return rate


def side_by_side(processes: list[subprocess.Popen[str]], steps: int) -> float:
    for process in processes:
        print(steps, file=process.stdin, flush=True)
    return sum(float(process.stdout.readline()) for process in processes)


def one_of_many() -> None:
    """A cell of a sweep: trains so many steps as a line of standard input says, and answers with its rate."""
    torch.set_num_threads(1)
    keep_freed_memory()
    with throughput.attempt_of(CELL, throughput.CPU) as run:
        for line in sys.stdin:
            print(throughput.trained(run, int(line)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--one-of-many", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one_of_many:
        return one_of_many()
    cores = throughput.cores()
    torch.set_num_threads(cores)
    keep_freed_memory()  # lightly's steps gain by it, too
    command = [sys.executable, __file__, "--one-of-many"]
    with ExitStack() as stack:
        fp32, bf16 = (stack.enter_context(throughput.attempt_of(cell, throughput.CPU)) for cell in (FP32, CELL))
        many = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(cores)
        ]
        sides = {
            "lightly, fp32": lightly(asked.steps),
            "one cell, fp32": lambda: throughput.trained(fp32, asked.steps),
            "one cell, bf16": lambda: throughput.trained(bf16, asked.steps),
            f"{cores} cells side by side, bf16": lambda: side_by_side(many, asked.steps),
        }
        rates = throughput.in_turn(sides, asked.rounds)
        for process in many:
            process.stdin.close()
    goals = dict(zip(sides, ("", "", "2.5", "3"), strict=True))
    theirs = statistics.median(rates["lightly, fp32"])
    for name, found in rates.items():
        rate, rounds = statistics.median(found), ", ".join(f"{value:.0f}" for value in found)
        goal = f"  goal {goals[name]} x" if goals[name] else ""
        print(f"{name:32} {rate:6.0f} samples/s  {rate / theirs:5.2f} x{goal}   ({rounds})")
    return None


if __name__ == "__main__":
    main()
