"""The encoders, and the image sizes that each of their stems accepts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneEntry:
    """An encoder as users know it; ``label`` is its name in tables.

    ``module``: the file of ``harness/ssl/models/backbones`` that builds it; ``sizes``: the image sides that each of its
    stems accepts (smallest, largest).
    """

    label: str
    module: str
    sizes: Mapping[str, tuple[int, int]]
    version: int = 1

    def stem_label(self, stem: str) -> str:
        """Return a stem's name in tables; empty for a backbone that has no choice of stems."""
        return STEMS[stem] if len(self.sizes) > 1 else ""


STEMS = {"cifar": "3x3 stem, no max-pool", "imagenet": "ImageNet stem"}

_CIFAR_STEM, _IMAGENET_STEM = (16, 96), (32, 1024)

_STEMS = {"cifar": _CIFAR_STEM, "imagenet": _IMAGENET_STEM}

BACKBONES = {
    "resnet18": BackboneEntry(label="ResNet-18", module="resnet", sizes=_STEMS),
    "resnet34": BackboneEntry(label="ResNet-34", module="resnet", sizes=_STEMS),
    "resnet50": BackboneEntry(label="ResNet-50", module="resnet", sizes=_STEMS),
    "convnet": BackboneEntry(label="four-layer conv net", module="convnet", sizes={"cifar": (8, 64)}),
}
