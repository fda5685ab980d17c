"""Processes that answer in lines of JSON: their answers, and how they end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness import json_process
from harness.json_process import ProcessFailed, call, exit_reason

SERVER = """
import os, signal, sys
from harness import json_process

def handle(request):
    print("a library prints this")
    for number in range(request["count"]):
        yield {"number": number}
    if request.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if request.get("error"):
        raise ValueError("no number")

json_process.serve(handle)
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "server.py").write_text(SERVER)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(json_process.__file__).parents[1]}")
    return "server"


def numbers(server: str, **request: Any) -> list[int]:
    return [answer["number"] for answer in call(server, request=request)]


def test_answers_come_one_by_one_and_what_else_is_printed_is_no_answer(server: str) -> None:
    assert numbers(server, count=3) == [0, 1, 2]


STRANGER = """
import atexit, ctypes, os, sys, threading, time
from harness import json_process

def handle(request):
    os.system("uname -s")
    os.write(1, b"[1, 2]\\n")
    ctypes.CDLL(None).printf(b"held back until the process ends\\n")
    assert sys.stdin.read() == os.read(0, 1).decode() == ""
    atexit.register(time.sleep, 600)
    threading.Thread(target=time.sleep, args=(600,)).start()
    yield {"number": 0}
    if request.get("fail"):
        raise ValueError("it is wrong\\nin several lines")
    if request.get("refuse"):
        raise UserError("it is wrong", where="own.py", next_command="do that")

from harness.errors import UserError
json_process.serve(handle)
"""


def test_code_of_strangers_reads_no_request_writes_no_answer_and_does_not_hold_the_end(
    server: str, tmp_path: Path
) -> None:
    (tmp_path / "stranger.py").write_text(STRANGER)
    assert numbers("stranger", more=[1] * 100) == [0]
    with pytest.raises(ProcessFailed, match=r"own\.py: it is wrong"):
        numbers("stranger", refuse=True)
    with pytest.raises(ProcessFailed, match="ValueError: it is wrong"):
        numbers("stranger", fail=True)


WITHOUT_PROC = """
import os
listdir = os.listdir
def refusing(path="."):
    if path == "/dev/fd":
        raise FileNotFoundError(path)
    return listdir(path)
os.listdir = refusing
"""


@pytest.mark.parametrize("first", ["", WITHOUT_PROC], ids=["", "without /proc"])
def test_a_program_that_outlives_its_server_holds_nothing_of_it(server: str, tmp_path: Path, first: str) -> None:
    """The locks of cores and GPUs are open files that a worker inherits; a program that it leaves behind must not."""
    (tmp_path / "leaving.py").write_text(first + STRANGER.replace('os.system("uname -s")', 'os.system("sleep 20 &")'))
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "leaving"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[writing]) as process:
        os.close(writing)
        process.communicate(b"{}\n", timeout=60)
    assert process.returncode == 0
    assert select.select([reading], [], [], 5)[0], "what the server has held is released with its end"
    os.close(reading)


FORKING = """
import multiprocessing, os, time
from harness import json_process

def handle(request):
    global pool
    pool = multiprocessing.get_context("fork").Pool(1)
    forked = os.fork()
    if not forked:
        time.sleep(60)
        os._exit(0)
    yield {"number": pool.apply(os.getpid)}
    yield {"number": forked}

json_process.serve(handle)
"""


def test_what_a_server_has_forked_does_not_hold_its_end(server: str, tmp_path: Path) -> None:
    """The children of a ``multiprocessing.Pool`` hold the pipe of the answers open."""
    (tmp_path / "forking.py").write_text(FORKING)
    begin = time.monotonic()
    of_pool, forked = numbers("forking")
    os.kill(forked, signal.SIGKILL)  # it still runs
    assert time.monotonic() - begin < 50
    while runs(of_pool):
        assert time.monotonic() - begin < 50
        time.sleep(0.1)


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended may still be listed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_request_larger_than_a_pipe(server: str) -> None:
    assert numbers(server, count=1, padding="x" * 1_000_000) == [0]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ({"kill": True}, "killed by SIGKILL, as the kernel does when memory is short"),
        ({"error": True}, "ValueError: no number"),
    ],
)
def test_the_answers_until_an_error_come_before_its_reason(server: str, end: dict[str, Any], reason: str) -> None:
    received = call(server, request={"count": 2, **end})
    assert [next(received), next(received)] == [{"number": 0}, {"number": 1}]
    with pytest.raises(ProcessFailed, match=reason):
        next(received)


def test_errors_are_added_to_a_log(server: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("an older line\n")
    with log.open("a+b") as errors, pytest.raises(ProcessFailed, match="ValueError"):
        list(call(server, request={"count": 1, "error": True}, errors=errors))
    assert log.read_text().startswith("an older line\na library prints this\n")


def test_a_process_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ProcessFailed, match="ended by itself with exit code 1"):
        list(call("anything", request={}))


@pytest.mark.parametrize(
    ("code", "errors", "reason"),
    [
        (-signal.SIGSEGV, b"a line\n", "killed by SIGSEGV"),
        (1, b"first\nlast\n", "last"),
        (3, b"", "the process ended by itself with exit code 3"),
        (0, b"a warning\n", "the process ended by itself with exit code 0"),
    ],
)
def test_why_a_process_ended(code: int, errors: bytes, reason: str) -> None:
    assert exit_reason(code, errors) == reason
