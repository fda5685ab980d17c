"""The folder of the user's cache, and files that no reader and no kill ever sees half-written."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

#: What a JSON object holds once it is read.
Json = dict[str, Any]
#: What may be written as JSON; what is read is any such value, which ``from_json`` of a type makes an object of.
JsonValue: TypeAlias = "str | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/harness``, by default ``~/.cache/harness``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None where the file does not exist, is empty, damaged, or just being written."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return loaded if isinstance(loaded, dict) else None


def write_json(path: Path, data: Mapping[str, JsonValue], mode: str = "w") -> None:
    """Write a JSON object as ``atomic_write`` does, with its modes for text."""
    with atomic_write(path, mode) as file:
        json.dump(data, file, indent=1)


@contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Give a draft to write to, which becomes ``path`` once it is whole and on the disk.

    Args:
        path: what to write.
        mode: as of ``open``: w or wb replace a file that is there, x or xb do not.

    Raises:
        FileExistsError: the mode is x or xb, and the file was there when the draft was whole.
        OSError: it cannot be written; the error names ``path``, and nothing is left.
    """
    draft = ""
    try:
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=draft_prefix(path))
        with os.fdopen(descriptor, mode.replace("x", "w"), encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)  # mkstemp makes 0600: colleagues on a shared file system read records too
        if "x" in mode:
            os.link(draft, path)
        else:
            os.replace(draft, path)
            draft = ""
    except OSError as error:
        if error.filename is None or Path(str(error.filename)).name.startswith(draft_prefix(path)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise  # it is about a file that the caller has read
    finally:
        if draft:
            os.unlink(draft)


def draft_prefix(path: Path) -> str:
    """Return how the names of a file's drafts begin."""
    return f".{path.name}."
