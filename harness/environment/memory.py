"""How much memory this process may use, control groups included."""

from __future__ import annotations

from pathlib import Path

import psutil

from harness.environment.control_groups import control_groups
from harness.environment.gpus import visible_gpus

#: The file of a control group's limit, in version 2 and 1.
LIMITS = ("memory.max", "memory.limit_in_bytes")


def memory_bytes(device: str, root: Path | None = None) -> int:
    """The memory of the smallest visible GPU; or this machine's, less if the process's control groups allow less."""
    if device == "cuda":
        return min(gpu.memory for gpu in visible_gpus())
    limits = (_number(group / name) for group in control_groups("memory", root) for name in LIMITS)
    return min([psutil.virtual_memory().total, *(limit for limit in limits if limit is not None)])


def _number(file: Path) -> int | None:
    """The number in the file; None where there is no such file, or it says that there is no limit."""
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
