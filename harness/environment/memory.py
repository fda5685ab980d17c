"""How much memory this process may use, control groups included."""

from __future__ import annotations

from pathlib import Path

import psutil

from harness.environment.gpus import visible_gpus

#: Where control groups lie, and their limits in version 2 and 1.
CGROUP, LIMITS = Path("/sys/fs/cgroup"), ("memory.max", "memory.limit_in_bytes")


def memory_bytes(device: str) -> int:
    """The memory of the smallest visible GPU; or this machine's, less if the process's control groups allow less."""
    if device == "cuda":
        return min(gpu.memory for gpu in visible_gpus())
    return min([psutil.virtual_memory().total, *_cgroup_limits()])


def _cgroup_limits() -> list[int]:
    """Return the limits of the process's own control group and of all above it, in either version."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    limits = []
    for controllers, group in (line.split(":", 2)[1:] for line in lines):
        if controllers in ("", "memory"):
            folder = CGROUP / controllers / group.strip("/")
            limits += [_number(path / name) for path in (folder, *folder.parents) for name in LIMITS]
    return [limit for limit in limits if limit is not None]


def _number(file: Path) -> int | None:
    """The number in the file; None where there is no such file, or it says that there is no limit."""
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
