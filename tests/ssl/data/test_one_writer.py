"""One process writes a file of the cache while others wait, also on a file system without locks."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.ssl.data.cache import write_once
from harness.ssl.data.node_copy import staged
from harness.store.signs_of_life import STALE_SECONDS

HOLD = """
import errno, fcntl, pathlib, socket, sys, time

path, host, locks = sys.argv[1:]

def refuse(descriptor, operation):
    raise OSError(errno.ENOTSUP, "not supported")

def save(file):
    print("held", flush=True)
    time.sleep(600)

if locks == "without":
    fcntl.flock = refuse
if host:
    socket.gethostname = lambda: host
from harness.ssl.data.cache import write_once
write_once(pathlib.Path(path), save)
"""


@pytest.fixture
def without_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", refuse)


@contextmanager
def holder(path: Path, host: str = "", locks: str = "without") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(path), host, locks]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def written(path: Path) -> bool:
    """Write the file in another thread, and return whether that took less than ten seconds."""
    thread = threading.Thread(target=write_once, args=(path, lambda file: file.write(b"pixels")), daemon=True)
    thread.start()
    thread.join(10)
    return path.exists()


@pytest.mark.e2e
@pytest.mark.usefixtures("without_flock")
def test_who_was_killed_while_it_wrote_keeps_nobody_waiting(tmp_path: Path) -> None:
    with holder(tmp_path / "images.npz") as killed:
        killed.kill()
    assert written(tmp_path / "images.npz")


@pytest.mark.e2e
@pytest.mark.usefixtures("without_flock")
def test_a_writer_on_another_machine_is_gone_when_its_heartbeat_is_silent(tmp_path: Path) -> None:
    with holder(tmp_path / "images.npz", host="another-node") as killed:
        killed.kill()
    long_ago = time.time() - STALE_SECONDS - 10
    for file in tmp_path.rglob("*"):
        os.utime(file, (long_ago, long_ago))
    assert written(tmp_path / "images.npz")


@pytest.mark.e2e
@pytest.mark.usefixtures("without_flock")
def test_who_waits_for_another_machine_says_for_whom_and_what_ends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "images.npz"
    with holder(path, host="another-node") as other:
        waiting = threading.Thread(target=write_once, args=(path, lambda file: file.write(b"")), daemon=True)
        waiting.start()
        said = _first_line(capsys)
        assert str(path) in said
        assert f"process {other.pid} on another-node" in said
        remedy = said.partition("if that has ended: ")[2].strip().removesuffix(")")
    subprocess.run(remedy.split(), check=True)
    waiting.join(10)
    assert path.exists()
    assert not capsys.readouterr().err, "it is said once"


@pytest.mark.e2e
def test_who_waits_for_the_kernels_lock_says_for_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "images.npz"
    with holder(path, locks="with"):
        waiting = threading.Thread(target=write_once, args=(path, lambda file: file.write(b"")), daemon=True)
        waiting.start()
        assert f"waiting for another process to write {path}" in _first_line(capsys)
    waiting.join(10)
    assert path.exists()


@pytest.mark.usefixtures("without_flock")
def test_a_nodes_copy_is_made_where_its_disk_has_no_locks(tmp_path: Path) -> None:
    images = tmp_path / "images" / "train" / "cat"
    images.mkdir(parents=True)
    (images / "0.jpg").touch()
    places = {staged(str(tmp_path / "images"), "a" * 40, str(tmp_path / "node")) for _ in range(2)}
    assert [path.name for place in places for path in Path(place).rglob("*.jpg")] == ["0.jpg"]


def _first_line(capsys: pytest.CaptureFixture[str]) -> str:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if said := capsys.readouterr().err:
            return said
        time.sleep(0.05)
    return ""
