"""The encoders, and the sides of images that each of their stems takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ImageSides:
    """The sides of square images, in pixels, from ``smallest`` to ``largest``, multiples of ``multiple_of``."""

    smallest: int
    largest: int
    multiple_of: int = 1

    def __contains__(self, side: int) -> bool:
        return self.smallest <= side <= self.largest and side % self.multiple_of == 0

    def __str__(self) -> str:
        multiple = f" (a multiple of {self.multiple_of})" if self.multiple_of > 1 else ""
        return f"{self.smallest} to {self.largest} pixels{multiple}"


@dataclass(frozen=True)
class BackboneEntry:
    """An encoder as users know it; ``label`` is its name in tables.

    ``module``: the file of ``harness/ssl/models/backbones`` that builds it; ``sides``: the sides of images that each of
    its stems takes.
    """

    label: str
    module: str
    sides: Mapping[str, ImageSides]
    version: int = 1

    def stem_label(self, stem: str) -> str:
        """Return a stem's name in tables; empty for a backbone that has no choice of stems."""
        return STEMS[stem] if len(self.sides) > 1 else ""


STEMS = {"cifar": "3x3 stem, no max-pool", "imagenet": "ImageNet stem"}

_STEMS = {"cifar": ImageSides(16, 96), "imagenet": ImageSides(32, 1024)}

BACKBONES = {
    "resnet18": BackboneEntry(label="ResNet-18", module="resnet", sides=_STEMS),
    "resnet34": BackboneEntry(label="ResNet-34", module="resnet", sides=_STEMS),
    "resnet50": BackboneEntry(label="ResNet-50", module="resnet", sides=_STEMS),
    "convnet": BackboneEntry(label="four-layer conv net", module="convnet", sides={"cifar": ImageSides(8, 64)}),
}
