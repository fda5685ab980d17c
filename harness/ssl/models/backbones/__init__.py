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
    """The encoder of images of so many channels, with whatever weights; ``image_size``: their side in pixels, which
    only some architectures need."""
    # Imported when it is asked for: torchvision takes a second, which small nets do not need.
    module = importlib.import_module(f"{__name__}.{BACKBONES[backbone.name].module}")
    build_encoder: Callable[[Backbone, int, int | None], Encoder] = module.build
    return build_encoder(backbone, channels, image_size)
