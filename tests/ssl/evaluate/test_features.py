"""Pixels as networks take them."""

from __future__ import annotations

import pytest
import torch

from harness.ssl.evaluate.features import normalized


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_normalised_per_channel_and_come_channels_last(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(5, channels, 6, 7, generator=generator)
    before = pixels.clone()
    mean, std = torch.rand(channels, generator=generator), torch.rand(channels, generator=generator) + 0.1
    found = normalized(pixels, mean, std)
    for channel in range(channels):
        assert torch.equal(found[:, channel], (pixels[:, channel] - mean[channel]) / std[channel])
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels, before)
