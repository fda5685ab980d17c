"""What to do about a file that cannot be read or written: its place decides, not the error alone."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.environment import device_locks
from harness.errors import quoted
from harness.files import WITHOUT_LIMIT, cache_folder

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
FULL = (errno.ENOSPC, errno.EDQUOT)
#: What making or reading a folder answers where a file lies in its place.
NO_FOLDER = (errno.EEXIST, errno.ENOTDIR)


def remedy(error: OSError, words: Sequence[str]) -> str:
    """Return what to type next after ``harness WORDS`` has failed with this error; empty where nothing is known.

    A file-size limit is a matter of the shell; else another folder helps, and the file's place says how it is named.
    """
    if error.errno == errno.EFBIG:
        return WITHOUT_LIMIT
    path = Path(os.fsdecode(error.filename)).absolute() if isinstance(error.filename, str | bytes) else None
    if error.errno in NO_FOLDER and path:
        return _moved_away(path)
    if error.errno not in (*REFUSED, *FULL):
        return ""
    elsewhere = _elsewhere(path, words) if path else "--results OTHER_FOLDER"
    what = "make room" if error.errno in FULL else "get write access"
    return f"{what} there, or {elsewhere}" if elsewhere else f"{what} there"


def _moved_away(path: Path) -> str:
    """Return how to move the file away that lies in the place of a folder; empty where there is none."""
    there = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if there.is_dir():
        return ""
    return f"mv {quoted(there)} {quoted(f'{there}.damaged')}, then the same command again"


def _elsewhere(path: Path, words: Sequence[str]) -> str:
    """Return the variable or the option that names another folder for a file of this place."""
    places = {
        cache_folder(): "export XDG_CACHE_HOME=FOLDER",
        device_locks.folder(): "export XDG_RUNTIME_DIR=FOLDER",
        _option("--reports", words, "reports"): "--reports OTHER_FOLDER",
        _option("--results", words, "results"): "--results OTHER_FOLDER",
        Path(tempfile.gettempdir()): "export TMPDIR=FOLDER",
    }
    within = [advice for folder, advice in places.items() if path.is_relative_to(folder.absolute())]
    return within[0] if within else ""


def _option(name: str, words: Sequence[str], default: str) -> Path:
    """Return the folder that an option names in either of its forms, or the default."""
    value = default
    for position, word in enumerate(words):
        if word.startswith(f"{name}="):
            value = word.partition("=")[2]
        elif word == name and position + 1 < len(words):
            value = words[position + 1]
    return Path(value)
