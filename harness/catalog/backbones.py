"""The encoders, and the image sizes that each of their stems accepts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneEntry:
    """An encoder; ``sizes`` are the image sides that each of its stems accepts (smallest, largest)."""

    label: str
    sizes: Mapping[str, tuple[int, int]]
    version: int = 1


_CIFAR_STEM, _IMAGENET_STEM = (16, 96), (32, 1024)

_STEMS = {"cifar": _CIFAR_STEM, "imagenet": _IMAGENET_STEM}

BACKBONES = {
    "resnet18": BackboneEntry(label="ResNet-18", sizes=_STEMS),
    "resnet34": BackboneEntry(label="ResNet-34", sizes=_STEMS),
    "resnet50": BackboneEntry(label="ResNet-50", sizes=_STEMS),
    "convnet": BackboneEntry(label="four-layer conv net", sizes={"cifar": (8, 64)}),
}

STEMS = {"cifar": "3x3 stem, no max-pool", "imagenet": "ImageNet stem"}
