"""Cores and GPUs are taken by one process at a time, whatever the file system and the user's variables are like."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.environment import device_locks
from harness.environment.device_locks import acquire, free

UNITS = ["core-0", "core-1", "core-2"]


def without_flock(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the file system refuse locks."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


def hold_each_unit_once() -> None:
    lease = acquire(UNITS, 2)
    assert lease
    assert free(UNITS) == 1
    assert acquire(UNITS, 2) is None
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=lease.descriptors
    ) as child:
        lease.release()
        assert free(UNITS) == 1, "a process that has inherited the hold keeps it"
        child.kill()
    assert free(UNITS) == 3, "the kernel frees what a killed process held"


@pytest.mark.parametrize("number", [None, errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL])
def test_a_unit_has_one_holder_with_and_without_locks_of_files(
    monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    if number is not None:
        without_flock(monkeypatch, number)
    hold_each_unit_once()


def test_where_no_folder_can_be_written_units_are_taken_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a file"))
    hold_each_unit_once()


@pytest.mark.parametrize("runtime", ["", "gone", "a file", "read-only"])
def test_a_runtime_folder_that_cannot_be_used_is_not_taken_at_its_word(
    runtime: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "read-only").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / runtime) if runtime else "")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("read-only"))
    assert device_locks.folder().parent == Path(tempfile.gettempdir())
