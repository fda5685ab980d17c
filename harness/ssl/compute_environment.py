"""The code and the hardware that compute in this process: revision, sources, versions, device."""

from __future__ import annotations

import functools
import importlib.metadata
import platform

import numpy as np
import torch

import harness
from harness.cell import Cell
from harness.environment.cpu import processor
from harness.environment.job import current_job
from harness.environment.revision import Revision, revision, source_hash
from harness.store.provenance import ComputeEnvironment


def compute_environment(cell: Cell, device: torch.device) -> ComputeEnvironment:
    """Return the code, versions and hardware with which this process trains the cell."""
    return ComputeEnvironment(
        revision=(loaded := _revision_at_start()).revision,
        dirty=loaded.dirty,
        cell_id=cell.cell_id,
        source_hash=source_hash(),
        versions={
            "harness": harness.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": importlib.metadata.version("torchvision"),
            "numpy": np.__version__,
        },
        hardware=hardware(device),
        threads=torch.get_num_threads(),
        scheduler=current_job(),
    )


@functools.cache
def _revision_at_start() -> Revision:
    """Return the revision of the code that this process has loaded, which the checkout may have left since."""
    return revision()


@functools.cache
def hardware(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor()
