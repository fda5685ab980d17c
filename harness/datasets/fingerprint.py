"""The fingerprint of a data set's content.

It is part of a cell's identity: the same name over other bytes is another experiment. It is taken of content only
(paths relative to the root, decompressed bytes), so that it is equal on every machine. Because hashing 60,000 files, or
gigabytes, takes seconds, it is remembered in the user's cache under the files' names, sizes and times.

The times are those of the last change of a file's content and of its entry: tools that copy set the former to what it
was elsewhere, but nobody sets the latter. What changed a moment ago is not remembered, because a file system may give
the same time to a second change.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

from harness.errors import UserError, quoted
from harness.files import cache_folder, recall, remember

#: A function that is given an open file and yields its properties, nothing for most files.
Inspect = Callable[[IO[bytes]], Iterable[str]]
#: Seconds within which a file system may not tell two changes apart; FAT counts in steps of two seconds.
SAME_TIME = 2.0


@dataclass
class Peculiar:
    """The files that have a property in common: how many they are, and the path of the first."""

    count: int = 0
    first: str = ""


@dataclass(frozen=True)
class Content:
    """What the files of a data set hold.

    ``fingerprint``: 16 hex digits over names (relative, without .gz) and decompressed content; ``size``: of the files
    in bytes; ``peculiar``: the files with each property that ``inspect`` found.
    """

    fingerprint: str
    size: int
    peculiar: Mapping[str, Peculiar]


def content_of(folder: Path, files: Iterable[Path], inspect: Inspect | None = None) -> Content:
    """Return what the files below the folder hold, read or remembered.

    Raises:
        UserError: a file cannot be read.
    """
    files = list(files)
    begun = time.time()
    stats = [_status(path) for path in files]
    size = sum(status.st_size for status in stats)
    times = [(str(path), s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in zip(files, stats, strict=True)]
    key = hashlib.sha256(json.dumps([times, inspect is not None]).encode()).hexdigest()[:24]
    remembered = cache_folder() / "fingerprints" / f"{key}.json"
    with suppress(LookupError, TypeError, AttributeError):  # what is remembered is damaged
        if known := recall(remembered):
            peculiar = {what: Peculiar(**which) for what, which in known["peculiar"].items()}
            return Content(str(known["fingerprint"]), size, peculiar)
    found = _read(folder, files, size, inspect)
    if abs(begun - max((status.st_ctime for status in stats), default=0)) > SAME_TIME:
        peculiar_files = {what: asdict(which) for what, which in found.peculiar.items()}
        remember(remembered, {"fingerprint": found.fingerprint, "peculiar": peculiar_files})
    return found


def _status(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error.strerror) from None
    if not stat.S_ISREG(status.st_mode):
        raise _unreadable(path, "it is a folder, a pipe or a device, but is called like a file of the data set")
    return status


def _read(folder: Path, files: Iterable[Path], size: int, inspect: Inspect | None) -> Content:
    digest = hashlib.sha256()
    peculiar: defaultdict[str, Peculiar] = defaultdict(Peculiar)
    for path in files:
        # The bytes of the name, since not every name is UTF-8.
        digest.update(os.fsencode(str(path.relative_to(folder)).removesuffix(".gz")) + b"\0")
        try:
            with _opened(path) as content:
                for what in inspect(content) if inspect else ():
                    peculiar[what].count += 1
                    peculiar[what].first = peculiar[what].first or str(path)
                content.seek(0)
                digest.update(hashlib.file_digest(content, "sha256").digest())
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from None
    return Content(digest.hexdigest()[:16], size, dict(peculiar))


def _opened(path: Path) -> BufferedReader:
    return cast("BufferedReader", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _unreadable(path: Path, why: str | None) -> UserError:
    return UserError(
        f"the file cannot be read: {why}",
        where=str(path),
        allowed="files that can be read, or links to them",
        next_command=f"ls -lL {quoted(path)}   (replace it or move it away; then the same command again)",
    )
