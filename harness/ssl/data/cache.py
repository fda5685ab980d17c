"""Files in the user's cache: written once, whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from harness.errors import UserError


def write_once(path: Path, save: Callable[[IO[bytes]], None]) -> None:
    """``save`` writes the file, unless it is there.

    The first process writes; others wait for it. One that is killed leaves a draft that the next one writes over.

    Raises:
        UserError: the file cannot be written.
    """
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{path}.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _write(path, save)
    except OSError as error:
        raise UserError(
            f"images cannot be kept in the cache: {error.strerror or error}",
            where=str(path),
            allowed="a cache folder that can be written and has room for all of them",
            next_command="export XDG_CACHE_HOME=FOLDER",
        ) from None


def _write(path: Path, save: Callable[[IO[bytes]], None]) -> None:
    draft = path.with_suffix(".draft")
    try:
        with draft.open("wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
