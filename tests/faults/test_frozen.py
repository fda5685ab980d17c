"""Processes that are stopped for longer than a heartbeat may stand still, and then go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.store.record import Record
from harness.store.signs_of_life import STALE_SECONDS
from tests.faults.damage import numbers
from tests.faults.machines import Machine, set_age, wait_until
from tests.support.prepared import prepared
from tests.support.results import harness

NO_STORE = ["--tracking-uri", "http://127.0.0.1:9"]
CELLS = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[1]", "axes.epochs=[20]"]


@dataclass
class Frozen:
    """Processes that a test has stopped; they go on at its end, whatever happens."""

    pids: list[int] = field(default_factory=list)

    def stop(self, pid: int) -> int:
        os.kill(pid, signal.SIGSTOP)
        self.pids.append(pid)
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        return pid

    def go_on(self) -> None:
        for pid in self.pids:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGCONT)
        self.pids.clear()


@pytest.fixture
def frozen() -> Iterator[Frozen]:
    stopped = Frozen()
    yield stopped
    stopped.go_on()


def machine(folder: Path, host: str) -> Machine:
    return Machine(folder / host, host).set_clock(0)


def record_in(results: Path) -> Record | None:
    """Return the record of the only cell, once it trains."""
    records = [Record(path) for path in results.glob("runs/*")]
    return records[0] if records and len(records[0].events()) > 1 else None


def children(pid: int, holds: Callable[[psutil.Process], Any]) -> list[int]:
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        if holds(process):
            found.append(process.pid)
    return found


def rank_of(process: psutil.Process) -> str:
    return ("harness.ssl" in process.cmdline() and process.environ().get("RANK", "")) or ""


@pytest.mark.tried("frozen processes", "a process that computes a cell, seen by `harness status`")
def test_a_stopped_process_is_named_with_what_lets_it_go_on(tiny: Path, frozen: Frozen) -> None:
    manifest = prepared(tiny, CELLS)
    results = tiny.parent / "results"
    record = Record(results / "runs" / manifest.cells[0].cell_id)
    record.submission_file.write_text("{}")
    command = [sys.executable, "-m", "harness.ssl", str(record.path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(partial(record_in, results))
        frozen.stop(process.pid)
        record.attempts()[0].heartbeat_file.touch()
        code, said = harness("status", results=results)
        assert "1 running" in said
        assert f"process {process.pid} on" in said
        assert f"has just been stopped; it is stopped, and goes on with: kill -CONT {process.pid}" in said
        set_age(record.attempts()[0].heartbeat_file, 2 * STALE_SECONDS)
        code, said = harness("status", results=results)
        assert code == 0
        silent = f"has given no sign of life for 4 minutes; it is stopped, and goes on with: kill -CONT {process.pid}"
        assert f"{silent}; the next sweep goes on from its checkpoint" in said
        process.kill()


@dataclass
class Wild:
    """A sweep of one cell; ``ranks``: of how many processes."""

    folder: Path
    frozen: Frozen
    ranks: int

    def __post_init__(self) -> None:
        text = (self.folder / "tiny.yaml").read_text().partition("claims:")[0]
        resources = f"resources:\n  - where: loss=dcl\n    gpus: {self.ranks}\n"
        (self.folder / "tiny.yaml").write_text(f"{text}scales:\n  demo: {{}}\n{resources}")
        words = [*CELLS, *NO_STORE, "cluster.slots=2", "--results"]
        calm = machine(self.folder, "node1").harness("sweep", "tiny.yaml", *words, "calm", cwd=self.folder)
        assert calm.returncode == 0, calm.stdout + calm.stderr
        self.words = [*words, "wild"]
        self.sweep = machine(self.folder, "node1").sweep("tiny.yaml", *self.words, cwd=self.folder)
        wait_until(lambda: record_in(self.folder / "wild"))
        found = record_in(self.folder / "wild")
        assert found
        self.record = found

    def status(self, host: str) -> str:
        done = machine(self.folder, host).harness("status", "--results", "wild", cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def join(self) -> subprocess.Popen[str]:
        """Give the same sweep on another machine."""
        return machine(self.folder, "node2").sweep("tiny.yaml", *self.words, cwd=self.folder)

    def check(self, *sweeps: subprocess.Popen[str]) -> None:
        """Check that all sweeps end well, and that the cell has one outcome, with the numbers of a calm sweep."""
        for sweep in (self.sweep, *sweeps):
            output, errors = sweep.communicate(timeout=280)
            assert sweep.returncode == 0, output + errors
            assert "FAILED" not in output
        (calm,) = (Record(path) for path in self.folder.glob("calm/runs/*"))
        assert numbers(self.record) == numbers(calm)
        published = self.record.outcome()
        assert published
        ends = [attempt.outcome() for attempt in self.record.attempts()]
        assert [end.attempt for end in ends if end and end.finished] == [published.attempt], "it finished once"


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.tried("frozen processes", "a worker; another machine takes its cell over")
def test_a_worker(tiny: Path, frozen: Frozen, record_property: Callable[[str, object], None]) -> None:
    wild = Wild(tiny.parent, frozen, 1)
    pid = frozen.stop(wild.record.attempts()[0].provenance().process.pid or 0)
    set_age(wild.record.attempts()[0].heartbeat_file, 2 * STALE_SECONDS)
    assert f"kill -CONT {pid}" in wild.status("node1")
    assert f"process {pid} on node1 has given no sign of life for 4 minutes" in wild.status("node2")
    other = wild.join()
    wait_until(lambda: len(wild.record.attempts()) == 2)
    wait_until(wild.record.outcome)
    frozen.go_on()
    wild.check(other)
    record_property("again", epochs_again(wild.record))


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.tried("frozen processes", "a sweep's own process; another machine joins in")
def test_a_supervisor(tiny: Path, frozen: Frozen, record_property: Callable[[str, object], None]) -> None:
    wild = Wild(tiny.parent, frozen, 1)
    pid = frozen.stop(wild.sweep.pid)
    (beat,) = tiny.parent.glob("wild/sweeps/*/heartbeat")
    set_age(beat, 2 * STALE_SECONDS)
    said = wild.status("node1")
    assert f"process {pid} on node1 has given no sign of life for 4 minutes; it is stopped" in said
    other = wild.join()
    wait_until(wild.record.outcome)
    frozen.go_on()
    wild.check(other)
    assert [attempt.number for attempt in wild.record.attempts()] == [1]
    record_property("again", epochs_again(wild.record))


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.tried("frozen processes", "the first rank, the second rank, or the launcher of a cell of two")
@pytest.mark.parametrize("victim", ["0", "1", "launcher"])
def test_a_rank(victim: str, tiny: Path, frozen: Frozen, record_property: Callable[[str, object], None]) -> None:
    wild = Wild(tiny.parent, frozen, 2)
    if victim == "launcher":
        (pid,) = children(wild.sweep.pid, lambda process: "torch.distributed.run" in process.cmdline())
    else:
        (pid,) = children(wild.sweep.pid, lambda process: rank_of(process) == victim)
    frozen.stop(pid)
    attempt = wild.record.attempts()[0]
    if victim == "0":
        set_age(attempt.heartbeat_file, 2 * STALE_SECONDS)
        assert f"kill -CONT {pid}" in wild.status("node1")
        other = wild.join()
        wait_until(lambda: len(wild.record.attempts()) == 2)
        wait_until(wild.record.outcome)
        frozen.go_on()
        wild.check(other)
    else:
        assert "1 running" in wild.status("node2") or wild.record.outcome()
        frozen.go_on()
        wild.check()
        assert len(wild.record.attempts()) == 1
    record_property("again", epochs_again(wild.record))


def epochs_again(record: Record) -> int:
    """Return how many epochs were computed more than once: what was lost."""
    steps = [event.step for attempt in record.attempts() for event in attempt.events() if "loss" in event.metrics]
    return len(steps) - len(set(steps))
