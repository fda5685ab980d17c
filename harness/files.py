"""The folder of the user's cache, and files that no reader and no kill ever sees half-written."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from harness.errors import UserError
from harness.trees import Tree

#: What file systems answer to a call that they do not have: exFAT and CIFS have neither hard links nor modes, file
#: systems in user space (FUSE) often lack fsync. A disk that is full or broken answers otherwise.
NOT_SUPPORTED = (
    *(errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EACCES),
    *(errno.EXDEV, errno.EMLINK, errno.ENOLCK),
)


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/harness``, by default ``~/.cache/harness``.

    Where there is no such folder and none can be made (no home, another user's, a read-only one), it lies among the
    temporary files.

    Raises:
        UserError: the folder among the temporary files belongs to another user, whose files are not to be trusted.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / "harness"
    if folder.is_absolute() and _can_be_made(folder):
        return folder
    own = Path(tempfile.gettempdir()) / f"harness-cache-{os.getuid()}"
    with suppress(OSError):
        own.mkdir(mode=0o700, exist_ok=True)
    if own.exists() and own.lstat().st_uid != os.getuid():
        what = "the folder for the cache belongs to another user"
        raise UserError(what, where=str(own), next_command="export XDG_CACHE_HOME=FOLDER")
    return own


def _can_be_made(folder: Path) -> bool:
    """Whether the folder exists, or its first parent that exists is a folder that can be written."""
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    return there.is_dir() and (there == folder or os.access(there, os.W_OK | os.X_OK))


def recall(path: Path) -> dict[str, Any] | None:
    """Return a JSON object of the cache; None where there is none, or the cache cannot be read."""
    try:
        return read_json(path)
    except OSError:
        return None


def remember(path: Path, data: Tree) -> None:
    """Write a JSON object into the cache; where the cache cannot be written, it is worked out again the next time."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, data)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None where the file does not exist, is empty, damaged, or just being written."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return loaded if isinstance(loaded, dict) else None


def write_json(path: Path, data: Tree, mode: str = "w") -> None:
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
            with where_supported():
                os.fsync(file.fileno())
        with where_supported():
            os.chmod(draft, 0o644)  # mkstemp makes 0600: colleagues on a shared file system read records too
        if "x" in mode:
            link(Path(draft), path)
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


def link(file: Path, path: Path) -> None:
    """Give a whole file a second name; where the file system has no hard links, the second file is a copy.

    Raises:
        FileExistsError: there is a file of this name. Without hard links, two processes that look within the same
            milliseconds may both write.
    """
    with where_supported():
        os.link(file, path)
        return
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    with atomic_write(path) as copy, file.open("rb") as content:
        shutil.copyfileobj(content, copy)


@contextmanager
def where_supported() -> Iterator[None]:
    """Go on after the block where the file system does not have what is called within; other errors are raised."""
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise


def room(folder: Path) -> str:
    """Return in a clause what limits a file in this folder: a limit of this process, and the free space of the disk."""
    free = f"{shutil.disk_usage(folder).free // 2**20} MiB are free on the disk of {folder}"
    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = f"files of this process may have at most {most // 2**10} KiB (ulimit -f), "
    return free if most == resource.RLIM_INFINITY else limit + free


def draft_prefix(path: Path) -> str:
    """Return how the names of a file's drafts begin."""
    return f".{path.name}."
