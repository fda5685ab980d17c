"""Whether a heartbeat still moves: its age by the clock of the file system that holds it, and a look at it for a while.

The clock of a machine may be wrong, or be set while a cell runs, so no machine's clock is compared with another's. Most
file systems give files the time of their server; some (Lustre, GPFS) give them the time of the machine that writes. A
heartbeat from the future therefore proves no more than one from the past, and before an attempt is superseded whose
process may exist, its heartbeat is watched.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

HEARTBEAT_SECONDS = 5.0
#: What has a heartbeat that is further from now than this counts as dead.
STALE_SECONDS = 120.0
#: How long a heartbeat is watched before what it belongs to is taken over.
WATCH_SECONDS = 3 * HEARTBEAT_SECONDS


def file_system_time(folder: Path) -> float:
    """Return the present time on the file system that holds ``folder``; where nothing can be written, this machine's.

    The file that is made for it has no name where the file system supports that, so that the folder does not change.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def age(path: Path, neighbour: Path) -> float | None:
    """Return how many seconds ago the file or folder changed, less than 0 in the future; None where it is not there.

    ``neighbour``: a folder on the same file system, in which nobody notices that a file comes and goes.
    """
    try:
        changed = path.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    return file_system_time(neighbour) - changed


def is_recent(seconds: float | None) -> bool:
    """Whether what has a heartbeat of this age counts as alive."""
    return seconds is not None and abs(seconds) <= STALE_SECONDS


def moves(heartbeat: Path) -> bool:
    """Whether the heartbeat is written while it is watched for WATCH_SECONDS; returns as soon as it is."""
    before, until = _stamp(heartbeat), time.monotonic() + WATCH_SECONDS
    while time.monotonic() < until:
        time.sleep(HEARTBEAT_SECONDS / 10)
        look_again(heartbeat.parent)
        if _stamp(heartbeat) != before:
            return True
    return False


def look_again(folder: Path) -> None:
    """Renew what this machine caches of the folder, as it does of a shared file system, by an entry that goes again."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock."):
        pass


def _stamp(path: Path) -> tuple[int, int]:
    """Return what changes whenever the file is written; zeros where it is not there."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return 0, 0
    return status.st_ino, status.st_mtime_ns
