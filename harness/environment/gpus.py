"""This machine's GPUs that this process may use, found without importing torch.

This is the only place that asks nvidia-smi. Whoever sets ``CUDA_VISIBLE_DEVICES`` hides GPUs from every process below:
a plan, ``harness doctor`` and a benchmark must not count them, or take their memory for a visible one's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

from harness.environment.cpu import processor
from harness.errors import UserError


@dataclass(frozen=True)
class Gpu:
    """One GPU as nvidia-smi lists it; ``memory``: in bytes."""

    index: str
    uuid: str
    name: str
    memory: int

    def is_called(self, name: str) -> bool:
        """Whether ``name``, an entry of CUDA_VISIBLE_DEVICES, means this GPU: its index, or how its UUID begins."""
        return name == self.index or (name.startswith("GPU-") and self.uuid.startswith(name))


def gpus() -> list[str]:
    """The names by which CUDA_VISIBLE_DEVICES calls the GPUs that this process may use."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        visible = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        return [name.strip() for name in visible if name.strip() and not name.strip().startswith("-")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(index) for index, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU")]


def visible_gpus() -> list[Gpu]:
    """The GPUs that this process may use, in their order, with what nvidia-smi says of them.

    Raises:
        UserError: nvidia-smi is not there, or fails.
    """
    command = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"the GPU cannot be asked: {error}", next_command="cluster.device=cpu") from None
    listed = []
    for line in lines:
        index, uuid, *name, memory = (part.strip() for part in line.split(","))
        listed.append(Gpu(index, uuid, ", ".join(name), int(memory) * 2**20))
    visible = [gpu for name in gpus() for gpu in listed if gpu.is_called(name)]
    return visible or listed  # a part of a GPU (MIG) is not in the list: then every GPU counts


def hardware(device: str) -> str:
    """The name of the first visible GPU, or of the processor, as records call it."""
    return visible_gpus()[0].name if device == "cuda" else processor()
