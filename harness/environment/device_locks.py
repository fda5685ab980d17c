"""Locks on this machine's cores and GPUs, shared by all the sweeps of one user.

A unit (a core, a GPU) is a file that is locked while a process computes on it. The lock is of the open file, which the
process inherits: the kernel frees it when the last of those who hold it has ended. So neither a killed sweep nor the
cell that survives it can leave a unit wrongly free or taken.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


def folder() -> Path:
    """The folder of this machine and user; never on a shared file system, where a lock may hold on one machine only."""
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"harness-slots-{os.getuid()}"


@dataclass(frozen=True)
class DeviceLease:
    """Units that are held by every process that has these descriptors open."""

    descriptors: tuple[int, ...]

    def release(self) -> None:
        """Release this process's hold; a process that has inherited the descriptors still holds the units."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def acquire(units: Iterable[str], count: int) -> DeviceLease | None:
    """The first ``count`` of these units that are free; None where there are fewer."""
    taken: list[int] = []
    for unit in units:
        if len(taken) == count:
            break
        descriptor = _locked(unit)
        if descriptor is not None:
            taken.append(descriptor)
    lease = DeviceLease(tuple(taken))
    if len(taken) == count:
        return lease
    lease.release()
    return None


def free(units: Iterable[str]) -> int:
    """How many of these units no process holds."""
    lease = DeviceLease(tuple(descriptor for unit in units if (descriptor := _locked(unit)) is not None))
    lease.release()
    return len(lease.descriptors)


def _locked(unit: str) -> int | None:
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder() / unit, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
