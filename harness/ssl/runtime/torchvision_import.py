"""Make ``import torchvision`` work where its compiled extension does not load.

The wheel of torchvision is built for CUDA. Beside a CPU build of torch its extension cannot be loaded, and the import
ends with "operator torchvision::nms does not exist", because meta registrations name operators that the extension
would have declared. Declaring the two schemas is enough for models, transforms and data sets; ``ops.nms`` and
``torchvision.io`` stay unusable (images are decoded with Pillow).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch


def _extension_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    try:
        for library in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(str(library))
    except OSError:
        return False
    return True


def _declare() -> torch.library.Library:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


# The declarations live as long as the Library object does.
_LIBRARY = None if _extension_loads() else _declare()
