"""How much of the cores' arithmetic a training step uses.

    python -m tests.benchmarks.arithmetic

GFLOP/s of bare steps of ResNet-18 (width 16, batch 256, bf16), beside a product of two large matrices of bf16 and the
encoder's 3 x 3 convolutions alone; one after another in every round, medians. Counted are matrix products and
convolutions (``torch.utils.flop_counter``), so that all else that a step does makes its rate smaller.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.ssl.measure.throughput import CPU, RESNET, bare_step, cores, generated, in_turn, seconds
from harness.ssl.runtime.malloc import keep_freed_memory

REPEATED = 5


def product(size: int = 2048) -> Callable[[], object]:
    left, right = torch.randn(2, size, size, dtype=torch.bfloat16)
    return lambda: left @ right


def convolution(channels: int, size: int) -> Callable[[], object]:
    """Forward and backward of both views' images in one stage of the encoder."""
    images = torch.randn(2 * RESNET.batch_size, channels, size, size, dtype=torch.bfloat16)
    images = images.to(memory_format=torch.channels_last).requires_grad_()
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False, dtype=torch.bfloat16)
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    gradient = torch.randn_like(images)

    def both() -> None:
        images.grad = layer.weight.grad = None
        layer(images).backward(gradient)

    return both


def gflops(work: Callable[[], object]) -> Callable[[], float]:
    """GFLOP/s of some calls."""
    with FlopCounterMode(display=False) as counter:
        work()
    count = REPEATED * counter.get_total_flops()

    def measured() -> float:
        return count / 1e9 / seconds(lambda: [work() for _ in range(REPEATED)])

    return measured


def main() -> None:
    torch.set_num_threads(cores())
    keep_freed_memory()
    step = bare_step(RESNET, generated(32), CPU)
    works = {"step": lambda: step(1), "product of 2,048 x 2,048": product()}
    for stage, channels in enumerate((16, 32, 64, 128)):
        works[f"convolution, {channels} channels"] = convolution(channels, 32 >> stage)
    for name, rates in in_turn({name: gflops(work) for name, work in works.items()}).items():
        print(f"{name:28} {statistics.median(rates):6.0f} GFLOP/s")


if __name__ == "__main__":
    main()
