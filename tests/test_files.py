"""Files on file systems that lack hard links, modes or fsync; and a cache that always has a place."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.files import NOT_SUPPORTED, atomic_write, cache_folder, link, read_json, recall, remember, write_json


def refuse(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """Let the file system refuse a call."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refused)


@pytest.mark.parametrize("number", NOT_SUPPORTED)
@pytest.mark.parametrize("call", ["link", "chmod", "fsync"])
def test_files_are_written_where_a_call_is_not_supported(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, call, number)
    path = tmp_path / "a.json"
    write_json(path, {"a": 1}, "x")
    with pytest.raises(FileExistsError):
        write_json(path, {"a": 2}, "x")
    assert read_json(path) == {"a": 1}
    write_json(path, {"a": 3})
    assert read_json(path) == {"a": 3}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["link", "fsync"])
def test_a_disk_that_is_full_or_broken_is_no_missing_call(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, call, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_json(tmp_path / "a.json", {"a": 1}, "x")
    assert os.listdir(tmp_path) == []


def test_without_hard_links_a_second_name_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "link", errno.EPERM)
    with atomic_write(tmp_path / "a") as file:
        file.write(b"content")
    link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content"
    with pytest.raises(FileExistsError, match="b"):
        link(tmp_path / "a", tmp_path / "b")


def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **variables: str | None) -> Path:
    """Return the folder for temporary files, where variables have these values."""
    for name, value in variables.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp" / f"harness-cache-{os.getuid()}"


def test_the_cache_lies_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places(monkeypatch, tmp_path, XDG_CACHE_HOME=str(tmp_path / "not" / "there"))
    assert cache_folder() == tmp_path / "not" / "there" / "harness"


@pytest.mark.parametrize(
    "value", ["", "cache", "~/.cache"], ids=["empty", "relative", "a tilde that no shell has read"]
)
def test_a_variable_that_names_no_absolute_folder_does_not_count(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places(monkeypatch, tmp_path, XDG_CACHE_HOME=value, HOME=str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "harness"


@pytest.mark.parametrize("home", [None, "/dev/null", "/proc/nothing"], ids=["unknown", "a file", "unwritable"])
def test_without_a_home_that_can_be_written_the_cache_is_a_temporary_folder_of_the_user(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = places(monkeypatch, tmp_path, XDG_CACHE_HOME=None, HOME=home)
    if home is None:
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user that the system does not know
    if home == "/proc/nothing":
        monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith("/proc"))
    assert cache_folder() == own
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


def test_a_temporary_folder_of_another_user_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files would be taken for this user's images and costs."""
    own = places(monkeypatch, tmp_path, XDG_CACHE_HOME="/dev/null")
    other = os.getuid() + 1
    own.with_name(f"harness-cache-{other}").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(UserError, match="belongs to another user") as caught:
        cache_folder()
    assert caught.value.next_command == "export XDG_CACHE_HOME=FOLDER"


def test_what_the_cache_cannot_hold_is_worked_out_again(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    remember(tmp_path / "a file" / "a.json", {"a": 1})
    assert recall(tmp_path / "a file" / "a.json") is None
    (tmp_path / "a.json").mkdir()
    assert recall(tmp_path / "a.json") is None
    remember(tmp_path / "folder" / "a.json", {"a": 1})
    assert recall(tmp_path / "folder" / "a.json") == {"a": 1}
