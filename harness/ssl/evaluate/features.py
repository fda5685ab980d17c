"""Features from a frozen encoder: its batch norm uses the running statistics, and no gradient flows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harness.ssl.data.split import Split
from harness.ssl.data.streaming import Stream

BATCH = 512


def features(encoder: nn.Module, split: Split | Stream, mean: Tensor, std: Tensor, precision: str) -> Tensor:
    """Return features (n, f) in fp32 of a split's images, without augmentation."""
    with frozen(encoder):
        return torch.cat(
            [embed(encoder, images.float() / 255, mean, std, precision) for images in split.batches(BATCH)]
        )


@torch.no_grad()
def embed(encoder: nn.Module, pixels: Tensor, mean: Tensor, std: Tensor, precision: str) -> Tensor:
    """Return features (b, f) in fp32 of pixels (b, C, H, W) in [0, 1]; ``encoder`` is ``frozen`` by the caller."""
    with torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        rows: Tensor = encoder(normalized(pixels, mean, std))
    return rows.float()


@contextmanager
def frozen(encoder: nn.Module) -> Iterator[None]:
    """Put the encoder into evaluation mode, and at the end back into the mode that it was in."""
    was_training = encoder.training
    encoder.eval()
    try:
        yield
    finally:
        encoder.train(was_training)


def normalized(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return pixels with zero mean and unit deviation per channel, in the layout in which convolutions are fast."""
    # Computed in the layout that they come in: a CPU is slow at computing from one layout into another.
    values = (pixels - mean.view(1, -1, 1, 1)).div_(std.view(1, -1, 1, 1))
    return torch.empty_like(pixels, memory_format=torch.channels_last).copy_(values)
