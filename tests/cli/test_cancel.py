"""``harness cancel``: real processes stop, and only those that were named."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from harness.cell import Cell
from harness.store.outcome import Outcome
from harness.store.record import Record
from tests.support.results import Results, as_json, harness

WORKER = """
import sys, time
from pathlib import Path
from harness.store.outcome import Outcome
from harness.store.heartbeat import Heartbeat
from harness.store.record import Record
attempt = Record(Path(sys.argv[1])).begin()
with Heartbeat(attempt) as heartbeat:
    while not heartbeat.stop:
        time.sleep(0.05)
(attempt.path / "checkpoint.pt").touch()
attempt.end(Outcome("interrupted", cause=heartbeat.stop))
"""

Run = Callable[[Cell], Record]


@pytest.fixture
def running(results: Results) -> Iterator[Run]:
    """A process that computes a cell, until it is asked to stop."""
    processes = []

    def start(cell: Cell) -> Record:
        record = results.record(cell)
        processes.append(subprocess.Popen([sys.executable, "-c", WORKER, str(record.path)]))
        while record.state() != "running":
            time.sleep(0.05)
        return record

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_running_cell_stops_with_its_checkpoint_and_others_go_on(results: Results, running: Run) -> None:
    named, other = running(results.cells[0]), running(results.cells[1])
    (said,) = as_json("cancel", named.cell_id, "--yes", results=results.path)
    assert said == {
        "cell_id": named.cell_id, "name": "loss=dcl seed=0", "was": "running", "became": "cancelled", "checkpoint": True
    }  # fmt: skip
    assert named.attempts()[-1].outcome() == Outcome("interrupted", attempt=1, cause="cancelled")
    assert other.state() == "running"


def test_a_queued_cell_is_withdrawn(results: Results) -> None:
    results.fail(results.cells[0])
    results.queue(results.cells[0])
    results.queue(results.cells[1])
    code, said = harness("cancel", "seed=0", "--yes", results=results.path)
    assert code == 0
    assert f"{results.cells[0].cell_id}  loss=dcl: cancelled; its checkpoint is kept" in said
    assert results.record(results.cells[0]).withdrawn()
    assert not results.record(results.cells[1]).withdrawn()


def test_what_does_not_stop_in_time_is_said(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.cli.cancel.WAIT_SECONDS", 0.1)
    attempt = results.begin(results.cells[0])
    code, said = harness("cancel", "state=running", "--yes", results=results.path)
    assert (code, "has not stopped yet" in said) == (1, True)
    assert attempt.stop_requested() == "cancelled"


def test_nothing_is_done_unasked(results: Results) -> None:
    attempt = results.begin(results.cells[0])
    code, said = harness("cancel", "tiny.demo", results=results.path)
    assert (code, "cancel tiny.demo" in said, "--yes" in said) == (2, True, True)
    assert f"running  {results.cells[0].cell_id}  loss=dcl seed=0" in said
    assert not attempt.stop_requested()


def test_nothing_to_cancel_is_no_error(results: Results) -> None:
    results.finish(results.cells[0])
    assert harness("cancel", "tiny.demo", results=results.path) == (0, "None of these cells is queued or runs.\n")
    assert as_json("cancel", "tiny.demo", results=results.path) == []
