"""Locks on this machine's cores and GPUs, shared by all the sweeps of one user.

A unit (a core, a GPU) is a file that is locked while a process computes on it. The lock is of the open file, which the
process inherits: the kernel frees it when the last of those who hold it has ended. So neither a killed sweep nor the
cell that survives it can leave a unit wrongly free or taken. Where files cannot be locked (a file system without flock,
no folder that can be written), a name in the kernel's list of sockets takes the file's place: it is as exclusive, and
as surely freed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.files import lock


def folder() -> Path:
    """Return the folder of this machine and user.

    It is never on a shared file system, where a lock may hold on one machine only. After ``sudo``, ``su`` or ``srun``,
    ``XDG_RUNTIME_DIR`` may name a folder that does not exist or is another user's: then it lies among temporary files.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = os.path.isdir(runtime) and os.access(runtime, os.W_OK | os.X_OK)
    return Path(runtime if usable else tempfile.gettempdir()) / f"harness-slots-{os.getuid()}"


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
    """Return the descriptor that holds the unit; None where another process holds it."""
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder() / unit, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return _named_socket(unit)
    try:
        if lock(descriptor, wait=False):
            return descriptor
    except OSError:
        os.close(descriptor)
        return _named_socket(unit)
    os.close(descriptor)
    return None


def _named_socket(unit: str) -> int | None:
    """Return the descriptor of a socket with the unit's name; None where another process has a socket of this name."""
    name = hashlib.sha256(os.fsencode(folder() / unit)).hexdigest()
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(f"\0harness-{name}")
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return held.detach()
