"""A small conv net for images of 8x8 to 64x64, where a ResNet would be waste."""

from __future__ import annotations

from torch import Tensor, nn

from harness.cell import Backbone
from harness.ssl.models.backbones.base import Encoder


def build(backbone: Backbone, channels: int, image_size: int | None) -> Encoder:
    """Return the conv net of this width, for images of any size."""
    return ConvNet(backbone.width, channels)


class ConvNet(nn.Sequential, Encoder):
    """Four 3x3 convolutions with batch norm and ReLU, two of them with stride 2, then the mean over positions.

    Args:
        width: channels of the first layer; the features have four times as many.
        channels: of the images.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__(
            _layer(channels, width, stride=1),
            _layer(width, 2 * width, stride=2),
            _layer(2 * width, 2 * width, stride=1),
            _layer(2 * width, 4 * width, stride=2),
        )
        self.features = 4 * width

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 width)."""
        maps: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return maps.mean((2, 3))


def _layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
