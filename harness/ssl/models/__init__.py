"""Encoder and projector of a cell, with initial weights that depend on the seed and the weights' names only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.cell import Backbone, Cell, Head
from harness.ssl.models import backbones, batchnorm
from harness.ssl.models.backbones.base import Encoder
from harness.ssl.models.initial_weights import initialize
from harness.ssl.models.projector import projector


def encoder(backbone: Backbone, channels: int, image_size: int | None = None) -> Encoder:
    """Return the encoder of images (B, channels, H, W), with features (B, ``features``).

    Exported encoders are loaded with it (``load_encoder.py``), so that it stays where it is.
    """
    return backbones.build(backbone, channels, image_size)


class Network(nn.Module):
    """``encoder``: images (B, C, H, W) -> features (B, f); ``projector``: features -> embeddings (B, d)."""

    def __init__(
        self, backbone: Backbone, head: Head, channels: int, image_size: int, precision: str, bn_passes: int
    ) -> None:
        super().__init__()
        self.precision = precision
        self.encoder = encoder(backbone, channels, image_size)
        self.projector = projector(self.encoder.features, head)
        self.bn_groups = 1  # of this process; see batchnorm.group
        self.bn_passes = bn_passes

    def forward(self, images: Tensor, views: int = 2) -> Tensor:
        """Return the embeddings (views n, d) of ``views`` stacked views of n samples (views n, C, H, W)."""
        return self.in_groups(lambda x: self.projector(self.encoder(x)), images, views)

    def in_groups(self, module: Callable[[Tensor], Tensor], x: Tensor, views: int) -> Tensor:
        """Apply ``module`` to x in this network's batch-norm groups, passes and precision; losses are never in half
        precision."""
        if self.bn_passes > 1 and views > 1:
            return torch.cat([self.in_groups(module, view, views=1) for view in x.chunk(views)])
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            return batchnorm.in_groups(module, x, views, self.bn_groups)


def build(cell: Cell, channels: int) -> Network:
    """Return the cell's network with its initial weights, on the CPU, channels last."""
    network = Network(cell.backbone, cell.head, channels, cell.dataset.image_size, cell.precision, cell.bn_passes)
    initialize(network, cell.seed)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks this form
    return network
