"""This machine's GPUs, found without importing torch."""

from __future__ import annotations

import os
import shutil
import subprocess

from harness.environment.cpu import processor
from harness.errors import UserError


def hardware(device: str) -> str:
    """As records call it: the GPU's or the processor's name."""
    return _nvidia_smi("name")[0] if device == "cuda" else processor()


def _nvidia_smi(field: str) -> list[str]:
    """One answer a GPU."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"the GPU cannot be asked: {error}", next_command="cluster.device=cpu") from None


def gpus() -> list[str]:
    """The GPUs that this process may use, without importing torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        visible = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        return [name.strip() for name in visible if name.strip() and not name.strip().startswith("-")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(index) for index, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU")]
