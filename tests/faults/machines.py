"""Real processes that take themselves to be on another machine with a clock of its own, by a hook at their start.

``time.time`` of such a process is off by the seconds in a file, which a test may change while it runs. The times of
files remain those of the file system, as on NFS; or a heartbeat gets the time of its writer, as on Lustre.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HOOK = """
import os, socket, sys, time

real_time, real_replace, real_name = time.time, os.replace, socket.gethostname

def shifted_time():
    with open(os.environ["TEST_CLOCK"]) as file:
        return real_time() + float(file.read() or 0)

def replace_with_own_time(source, target, **more):
    if os.path.basename(target) == "heartbeat":
        os.utime(source, (shifted_time(), shifted_time()))
    real_replace(source, target, **more)

def name_for_harness():
    caller = sys._getframe(1).f_globals.get("__name__", "")  # torchrun looks the name up
    return os.environ["TEST_HOST"] if caller.startswith("harness.") else real_name()

time.time = shifted_time
socket.gethostname = name_for_harness
if os.environ.get("TEST_STAMPS"):
    os.replace = replace_with_own_time
"""
#: The processes that the present test has started.
STARTED: list[subprocess.Popen[str]] = []
#: After so many seconds a test hangs.
HANGS = 800
#: An hour ahead, and an hour behind.
SHIFTS = (3600, -3600)


@dataclass(frozen=True)
class Machine:
    """A machine called ``host``; ``folder``: for its hook, its clock, its locks and its cache."""

    folder: Path
    host: str
    stamps: bool = False

    def set_clock(self, seconds: float) -> Machine:
        """Let its clock be ahead of the right one by so many seconds."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "sitecustomize.py").write_text(HOOK)
        draft = self.folder / "clock.draft"
        draft.write_text(str(seconds))
        draft.replace(self.folder / "clock")
        return self

    def start(self, *command: str, cwd: Path) -> subprocess.Popen[str]:
        """Start a program on it, whose output goes into pipes."""
        variables = {
            "PYTHONPATH": str(self.folder),
            "TEST_CLOCK": str(self.folder / "clock"),
            "TEST_HOST": self.host,
            "TEST_STAMPS": "1" if self.stamps else "",
            "XDG_RUNTIME_DIR": str(self.folder),
            "OMP_NUM_THREADS": "1",
        }
        environment = {**os.environ, **variables}
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )
        STARTED.append(process)
        return process

    def harness(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run harness on it to its end."""
        with self.start(sys.executable, "-m", "harness.cli.main", *words, cwd=cwd) as process:
            output, errors = process.communicate(timeout=HANGS)
        return subprocess.CompletedProcess(words, process.returncode, output, errors)

    def sweep(self, *words: str, cwd: Path) -> subprocess.Popen[str]:
        """Start a sweep on it."""
        return self.start(sys.executable, "-m", "harness.cli.main", "sweep", *words, cwd=cwd)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; no test depends on how long that takes."""
    deadline = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


def set_age(path: Path, seconds: float) -> None:
    """Let a file have been written so many seconds ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))
