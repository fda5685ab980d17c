"""Features of whole splits from a frozen encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.ssl.data.sources import Split

BATCH = 512


@torch.no_grad()
def features(encoder: nn.Module, split: Split, mean: Tensor, std: Tensor, precision: str) -> Tensor:
    """(n, f) features in fp32 of a split's images, without augmentation and with the running batch-norm statistics."""
    was_training = encoder.training
    encoder.eval()
    device = split.images.device
    rows = []
    for images in split.images.split(BATCH):
        pixels = normalized(images.float() / 255, mean, std)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            rows.append(encoder(pixels).float())
    encoder.train(was_training)
    return torch.cat(rows)


def normalized(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Zero mean and unit deviation per channel, channels last: the layout that convolutions are fast in."""
    shifted = (pixels - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    return shifted.contiguous(memory_format=torch.channels_last)
