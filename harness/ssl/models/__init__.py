"""Encoder and projector of a cell, with initial weights that depend on the seed and the parameter's name only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.cell import Backbone, Cell, Head
from harness.ssl.models.convnet import ConvNet
from harness.ssl.streams import torch_generator

if TYPE_CHECKING:
    from harness.ssl.models.resnet import ResNet18


def encoder(backbone: Backbone, channels: int) -> ConvNet | ResNet18:
    """Images (B, channels, H, W) -> features (B, ``features``)."""
    if backbone.name == "convnet":
        return ConvNet(backbone.width, channels)
    from harness.ssl.models.resnet import ResNet18  # torchvision takes a second to import; small nets do not need it

    return ResNet18(backbone.width, channels)


class Network(nn.Module):
    """``encoder``: images (B, C, H, W) -> features (B, f); ``projector``: features -> embeddings (B, d)."""

    def __init__(self, backbone: Backbone, head: Head, channels: int) -> None:
        super().__init__()
        self.encoder = encoder(backbone, channels)
        self.projector = nn.Sequential(
            nn.Linear(self.encoder.features, head.hidden, bias=False),
            nn.BatchNorm1d(head.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(head.hidden, head.dim),
        )

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.projector(self.encoder(images))
        return embeddings


def build(cell: Cell, channels: int) -> Network:
    """The cell's network with its initial weights, on the CPU, channels last."""
    network = Network(cell.backbone, cell.head, channels)
    initialize(network, cell.seed)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks this form
    return network


@torch.no_grad()
def initialize(network: nn.Module, seed: int) -> None:
    """Draw every weight from the stream of its own name: He for convolutions, torch's defaults for linear layers."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            generator = torch_generator(seed, f"weights {name}")
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            generator = torch_generator(seed, f"weights {name}")
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            if module.bias is not None:
                bound = 1 / math.sqrt(module.in_features)
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
