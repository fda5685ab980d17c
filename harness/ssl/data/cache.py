"""Files in the user's cache, which are written once, whole or not at all."""

from __future__ import annotations

import errno
import glob
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from harness.errors import UserError, quoted
from harness.files import WITHOUT_LIMIT, atomic_write, draft_prefix
from harness.ssl.data.one_writer import one_writer


def write_once(path: Path, save: Callable[[IO[bytes]], None]) -> None:
    """Let ``save`` write the file, unless it exists.

    The first process writes; others wait for it. If it is killed it leaves a draft, which the next one removes.

    Raises:
        UserError: the file cannot be written.
    """
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with one_writer(path):
            if not path.exists():
                _write(path, save)
    except OSError as error:
        raise UserError(
            f"images cannot be kept in the cache: {error.strerror or error}",
            where=str(path),
            allowed="a cache folder that can be written and has room for all of them",
            next_command=WITHOUT_LIMIT if error.errno == errno.EFBIG else "export XDG_CACHE_HOME=FOLDER",
        ) from None


#: What reading answers where the content of a file is not the reason: rights, open files, memory, a file server.
NOT_CONTENT = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)


@contextmanager
def kept_whole(path: Path) -> Iterator[None]:
    """Name the file, and the command that has it made again, if what is read from it within is damaged.

    Raises:
        UserError: the content is damaged, or the file cannot be read now.
    """
    try:
        yield
    except (OSError, EOFError, LookupError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, OSError) and error.errno in NOT_CONTENT:
            raise UserError(
                f"the file in the cache cannot be read now: {error.strerror}",
                where=str(path),
                allowed="a file that this user may read, and room for one more open file (ulimit -n)",
                next_command="the same command again; or export XDG_CACHE_HOME=FOLDER",
            ) from None
        raise UserError(
            f"the file in the cache is damaged: {error}",
            where=str(path),
            next_command=f"rm {quoted(path)}   (it is made again)",
        ) from None


def _write(path: Path, save: Callable[[IO[bytes]], None]) -> None:
    for left in path.parent.glob(f"{glob.escape(draft_prefix(path))}*"):
        left.unlink()
    with atomic_write(path) as file:
        save(file)
