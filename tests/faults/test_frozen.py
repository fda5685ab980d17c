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

import psutil
import pytest

from harness.store.record import Record
from harness.store.signs_of_life import STALE_SECONDS
from tests.faults.machines import set_age, wait_until
from tests.faults.one_cell import CELLS, OneCell, epochs_again, record_in
from tests.support.prepared import prepared
from tests.support.results import harness


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


def taken_over(wild: OneCell, frozen: Frozen) -> None:
    """Let another machine finish the cell of a stopped process, which then goes on."""
    other = wild.start("node2")
    wait_until(lambda: len(wild.record.attempts()) == 2)
    wait_until(wild.record.outcome)
    frozen.go_on()
    wild.check(other)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.tried("frozen processes", "a worker; another machine takes its cell over")
def test_a_worker(tiny: Path, frozen: Frozen, record_property: Callable[[str, object], None]) -> None:
    wild = OneCell(tiny.parent, 1)
    pid = frozen.stop(wild.record.attempts()[0].provenance().process.pid or 0)
    set_age(wild.record.attempts()[0].heartbeat_file, 2 * STALE_SECONDS)
    assert f"kill -CONT {pid}" in wild.status("node1")
    assert f"process {pid} on node1 has given no sign of life for 4 minutes" in wild.status("node2")
    taken_over(wild, frozen)
    record_property("again", epochs_again(wild.record))


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.tried("frozen processes", "a sweep's own process; another machine joins in")
def test_a_supervisor(tiny: Path, frozen: Frozen, record_property: Callable[[str, object], None]) -> None:
    wild = OneCell(tiny.parent, 1)
    pid = frozen.stop(wild.sweep.pid)
    (beat,) = tiny.parent.glob("wild/sweeps/*/heartbeat")
    set_age(beat, 2 * STALE_SECONDS)
    said = wild.status("node1")
    assert f"process {pid} on node1 has given no sign of life for 4 minutes; it is stopped" in said
    other = wild.start("node2")
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
    wild = OneCell(tiny.parent, 2)
    pid = wild.process(victim)
    frozen.stop(pid)
    attempt = wild.record.attempts()[0]
    if victim == "0":
        set_age(attempt.heartbeat_file, 2 * STALE_SECONDS)
        assert f"kill -CONT {pid}" in wild.status("node1")
        taken_over(wild, frozen)
    else:
        assert "1 running" in wild.status("node2") or wild.record.outcome()
        frozen.go_on()
        wild.check()
        assert len(wild.record.attempts()) == 1
    record_property("again", epochs_again(wild.record))
