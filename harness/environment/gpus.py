"""This machine's GPUs that this process may use, found without importing torch.

This is the only place that asks nvidia-smi. Whoever sets ``CUDA_VISIBLE_DEVICES`` hides GPUs from every process below:
a plan, ``harness doctor`` and a benchmark must not count them, or take their memory for a visible one's.
"""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
from collections.abc import Sequence
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


def number_as_nvidia_smi() -> None:
    """Let CUDA number the GPUs as nvidia-smi does, in this process and in those that it starts.

    CUDA would number the fastest GPU first, nvidia-smi numbers them by their place on the PCI bus: on a machine with
    unlike GPUs, ``CUDA_VISIBLE_DEVICES=1`` would mean one GPU in a plan and another one in training. See "CUDA
    environment variables" in NVIDIA's CUDA C++ Programming Guide.
    """
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


@functools.cache
def _installed_gpus() -> tuple[Gpu, ...]:
    """Return this machine's GPUs in the order of nvidia-smi, which is started once per process.

    Raises:
        UserError: nvidia-smi is not there, or fails.
    """
    command = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"the GPU cannot be asked: {error}", next_command="cluster.device=cpu") from None
    installed = []
    for line in lines:
        index, uuid, *name, memory = (part.strip() for part in line.split(","))
        installed.append(Gpu(index, uuid, ", ".join(name), int(memory) * 2**20))
    return tuple(installed)


def gpus() -> list[str]:
    """Return the names by which CUDA_VISIBLE_DEVICES calls the GPUs that this process may use.

    The variable counts only as far as it names GPUs of this machine: job scripts and containers set it on machines
    without any, and CUDA ignores its names from the first one that means nothing.
    """
    try:
        installed = _installed_gpus()
    except UserError:
        return []
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        return [gpu.index for gpu in installed]
    names = [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",")]
    return list(itertools.takewhile(lambda name: _is_visible(name, installed), names))


def _is_visible(name: str, installed: Sequence[Gpu]) -> bool:
    """Whether an entry of CUDA_VISIBLE_DEVICES means a GPU of this machine, or an unlisted part of one (MIG)."""
    return any(name.startswith("MIG-") or gpu.is_called(name) for gpu in installed)


def visible_gpus() -> list[Gpu]:
    """Return the GPUs that this process may use, in their order, with what nvidia-smi says of them.

    Raises:
        UserError: nvidia-smi is not there, or fails.
    """
    installed = _installed_gpus()
    visible = [gpu for name in gpus() for gpu in installed if gpu.is_called(name)]
    return visible or list(installed)  # a part of a GPU (MIG) is not in the list: then every GPU counts


def hardware(device: str) -> str:
    """Return the name of the first visible GPU, or of the processor, as records call it."""
    return visible_gpus()[0].name if device == "cuda" else processor()
