"""The folder of the user's cache, and files that no reader and no kill ever sees half-written."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from harness.errors import DamagedFile, UnreadableFile, UserError, quoted, shortened
from harness.trees import Tree
from harness.types_of import check_types

T = TypeVar("T")

#: What a JSON object holds once it is read, before a type makes something of it.
Json = dict[str, Any]

#: What file systems answer to a call that they do not have: exFAT and CIFS have neither hard links nor modes, file
#: systems in user space (FUSE) often lack fsync. A disk that is full or broken answers otherwise.
NOT_SUPPORTED = (
    *(errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EACCES),
    *(errno.EXDEV, errno.EMLINK, errno.ENOLCK),
)

#: The last key of a JSON file that vouches for its bytes; files of earlier versions have none.
CHECKSUM_KEY = "checksum"
ENDING_LENGTH = len(f',\n "{CHECKSUM_KEY}": "crc32:01234567"\n}}')
#: What reading answers where something else lies in the place of a file.
DAMAGE = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
#: What reading answers where this user may not read a file.
FORBIDDEN = (errno.EACCES, errno.EPERM)
#: What reading answers where a disk or its server fails: the bytes may be whole all the same.
FAILING = (errno.EIO, errno.ESTALE)
#: What to type where a file may not be as large as it would be: the disk is not what is full.
WITHOUT_LIMIT = "ulimit -f unlimited   (files of this process have a limit; the disk is not full)"

#: How the cache is called where it lies among the temporary files; the number of the user follows.
TEMPORARY_CACHE = "harness-cache-"


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
    own = Path(tempfile.gettempdir()) / f"{TEMPORARY_CACHE}{os.getuid()}"
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


def recall(path: Path) -> Json | None:
    """Return a JSON object of the cache; None where there is none, or the cache is damaged or cannot be read."""
    try:
        return read_json(path)
    except (DamagedFile, OSError):
        return None


def remember(path: Path, data: Tree) -> None:
    """Write a JSON object into the cache; where the cache cannot be written, it is worked out again the next time."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, data)


def read_json(path: Path) -> Json | None:
    """Return a JSON object without its checksum; None where there is no such file.

    Raises:
        DamagedFile: the file is there and holds no JSON object, or not the one that was written.
        UnreadableFile: the file is there and cannot be read now.
    """
    try:
        written = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise reading_error(path, error) from None
    try:
        content = json.loads(written)
    except ValueError:
        raise DamagedFile(path, "it is no JSON" if written else "it is empty") from None
    if not isinstance(content, dict):
        raise DamagedFile(path, "it is no JSON object")
    if content.pop(CHECKSUM_KEY, None) is not None and not _vouched(written):
        raise DamagedFile(path, "its content is not what its checksum was written for")
    return content


def reading_error(path: Path, error: OSError) -> Exception:
    """Return what to raise about a file that could not be read: that it is damaged, or that it cannot be read now.

    Other errors, such as too many open files, are not about the file, and are returned as they are.
    """
    why = error.strerror or "no reason is given"
    if error.errno in DAMAGE:
        return DamagedFile(path, why)
    if error.errno in FORBIDDEN:
        return UnreadableFile(path, why, f"chmod u+rX {quoted(path)}, or ask the owner of the file")
    if error.errno in FAILING:
        return UnreadableFile(path, why, "check the disk or its server (dmesg), then the same command again")
    return error


def read_as(path: Path, build: Callable[[Json], T]) -> T | None:
    """Return what ``build`` makes of a JSON object; None where there is no such file.

    Raises:
        DamagedFile: as ``read_json`` does; or the object has not the keys and the types of values that it must have.
    """
    content = read_json(path)
    if content is None:
        return None
    try:
        built = build(content)
        check_types(built)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise DamagedFile(path, f"it has not the content that it must have ({shortened(repr(error), 100)})") from None
    return built


def read_if_whole(path: Path, build: Callable[[Json], T]) -> T | None:
    """Return what ``read_as`` does; None also where the file is damaged, for files on which no result depends."""
    try:
        return read_as(path, build)
    except DamagedFile:
        return None


def write_json(path: Path, data: Tree, mode: str = "w", *, checksum: bool = True, indent: int | None = 1) -> None:
    """Write a JSON object as ``atomic_write`` does, with its modes for text; by default its last key is a checksum.

    The checksum is the CRC-32 of all bytes before it. A folder in the place of the file is set aside. ``indent``: as of
    ``json.dumps``, which is many times faster with None.
    """
    text = json.dumps(data, indent=indent)
    if checksum and data:
        beginning = text.removesuffix("}").removesuffix("\n")
        text = beginning + _ending(beginning.encode())
    if path.is_dir():
        set_aside(path)
    with atomic_write(path, mode) as file:
        file.write(text)


def set_aside(path: Path) -> Path | None:
    """Rename a damaged file or folder, so that it is kept and no longer read; return its new path.

    None where another process was faster.
    """
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    try:
        path.rename(kept)
    except FileNotFoundError:
        return None
    return kept


def remove(path: Path) -> None:
    """Remove a file, if there is one; a folder in its place is set aside."""
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:  # Linux answers EISDIR, macOS EPERM
        if not path.is_dir():
            raise
        set_aside(path)


def make_folder(path: Path) -> None:
    """Make a folder in one that exists, where there is none yet; a file in its place is set aside."""
    if path.exists() and not path.is_dir():
        set_aside(path)
    path.mkdir(exist_ok=True)


def _ending(beginning: bytes) -> str:
    """Return how a JSON object ends that begins so: with its checksum."""
    return f',\n "{CHECKSUM_KEY}": "crc32:{zlib.crc32(beginning):08x}"\n}}'


def _vouched(written: bytes) -> bool:
    beginning = written[:-ENDING_LENGTH]
    return written[-ENDING_LENGTH:] == _ending(beginning).encode()


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
            sync(file)
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


def sync(file: IO[Any]) -> None:
    """Wait until what was written to the file is on the disk, so that no power cut takes it away."""
    with where_supported():
        os.fsync(file.fileno())


@contextmanager
def where_supported() -> Iterator[None]:
    """Go on after the block where the file system does not have what is called within; other errors are raised."""
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise


def lock(descriptor: int, *, wait: bool) -> bool:
    """Lock an open file, until no process that has inherited it has it open, and return whether it is locked now.

    ``wait``: for a process that has opened and locked it too; without, the answer is then False at once.

    Raises:
        OSError: the file system cannot lock files.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def existing_folder(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists: the disk on which the folder lies or will lie."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def free_bytes(folder: Path) -> int:
    """Return how many bytes are free on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(existing_folder(folder)).free


def room(folder: Path) -> str:
    """Return in a clause what limits a file in this folder: a limit of this process, and the free space of the disk."""
    free = f"{free_bytes(folder) // 2**20} MiB are free on the disk of {folder}"
    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = f"files of this process may have at most {most // 2**10} KiB (ulimit -f), "
    return free if most == resource.RLIM_INFINITY else limit + free


def draft_prefix(path: Path) -> str:
    """Return how the names of a file's drafts begin."""
    return f".{path.name}."
