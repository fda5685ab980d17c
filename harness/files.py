"""The folder of the user's cache, and JSON files that no reader and no kill ever sees half-written."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/harness``, by default ``~/.cache/harness``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"


def read_json(path: Path) -> Json | None:
    """A JSON object, or None where the file does not exist, is empty, damaged, or being written for the first time."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return loaded if isinstance(loaded, dict) else None


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write through a temporary file and a rename, so that no reader and no kill ever sees half of it.

    Raises:
        OSError: it cannot be written there; it names the path, and leaves nothing.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        os.unlink(temporary)
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.chmod(temporary, 0o644)  # mkstemp makes 0600: colleagues on a shared file system read records too
    os.replace(temporary, path)
