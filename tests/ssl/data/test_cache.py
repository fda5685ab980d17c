"""What is kept in the cache is written once; how it is written: test_packed.py, test_sources.py."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import IO

import pytest

from harness.errors import UserError
from harness.ssl.data.cache import write_once


def test_what_is_there_is_only_looked_at(tmp_path: Path) -> None:
    """A cache that somebody else filled may be one that cannot be written: no lock is taken."""
    written = []

    def save(file: IO[bytes]) -> None:
        written.append(file.write(b"pixels"))

    write_once(tmp_path / "images.npz", save)
    os.unlink(tmp_path / "images.npz.lock")
    write_once(tmp_path / "images.npz", save)
    assert written == [6]
    assert os.listdir(tmp_path) == ["images.npz"]


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL])
def test_a_file_is_written_once_where_the_file_system_has_no_locks(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for content in (b"first", b"second"):
        write_once(tmp_path / "images.npz", lambda file, content=content: file.write(content))  # type: ignore[misc]
    assert (tmp_path / "images.npz").read_bytes() == b"first"
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".locked")], "the next one need not wait"


@pytest.mark.parametrize(("number", "remedy"), [(errno.EFBIG, "ulimit -f unlimited"), (errno.EROFS, "XDG_CACHE_HOME")])
def test_the_remedy_is_that_of_what_refused_the_file(number: int, remedy: str, tmp_path: Path) -> None:
    def save(file: object) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(UserError, match=os.strerror(number)) as caught:
        write_once(tmp_path / "images.npz", save)
    assert remedy in caught.value.next_command
