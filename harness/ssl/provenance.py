"""The provenance of an attempt: revision, sources, versions, hardware."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

import harness
from harness.cell import Cell
from harness.environment.cpu import processor
from harness.environment.job import current_job
from harness.environment.revision import revision, source_hash


def provenance(cell: Cell, submission: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        **_revision_at_start(),
        "cell_id": cell.cell_id,
        "submission": dict(submission),
        "sources": source_hash(),
        "versions": {
            "harness": harness.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": importlib.metadata.version("torchvision"),
            "numpy": np.__version__,
        },
        "hardware": hardware(device),
        "threads": torch.get_num_threads(),
        "scheduler": vars(job) if (job := current_job()) else {},
    }


@functools.cache
def _revision_at_start() -> Mapping[str, Any]:
    """Return the revision of the code that this process has loaded, which the checkout may have left since."""
    return revision()


@functools.cache
def hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor()
