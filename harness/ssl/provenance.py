"""Where an attempt ran and with what: revision, sources, versions, hardware."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import harness
from harness.cell import Cell
from harness.processor import processor
from harness.revision import revision

PACKAGE = Path(harness.__file__).parent


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
        "scheduler_id": os.environ.get("SLURM_JOB_ID", ""),
    }


@functools.cache
def _revision_at_start() -> Mapping[str, Any]:
    """Of the code that this process runs, whatever the checkout holds when its next cell begins."""
    return revision()


@functools.cache
def source_hash() -> str:
    """12 hex digits over the sources that compute a cell: informs, but never makes a result stale."""
    digest = hashlib.sha256()
    for path in sorted([*PACKAGE.joinpath("ssl").rglob("*.py"), PACKAGE / "cell.py"]):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor()
