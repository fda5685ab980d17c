"""The backbones, one file for each architecture, each with ``build(backbone, channels, image_size)``.

The catalogue says which file builds which backbone (``BackboneEntry.module``).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from harness.catalog.backbones import BACKBONES
from harness.cell import Backbone
from harness.ssl.models.backbones.base import Encoder


def build(backbone: Backbone, channels: int, image_size: int | None = None) -> Encoder:
    """Return the encoder of images of so many channels, before its weights are drawn.

    ``image_size``: the side of the images in pixels, which only some architectures need.
    """
    # Imported only now: torchvision takes a second, and small nets do not need it.
    module = importlib.import_module(f"{__name__}.{BACKBONES[backbone.name].module}")
    build_encoder: Callable[[Backbone, int, int | None], Encoder] = module.build
    return build_encoder(backbone, channels, image_size)
