"""kill -9 of a sweep and of its cells: the same command again finishes, with the numbers of a calm sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.store.record import Record

OVERRIDES = ["axes.seed=[0]", "axes.batch_size=[64]", "axes.epochs=[30]", "cluster.slots=2"]


@pytest.fixture
def folder(tiny: Path) -> Path:
    """Where the experiment lies, without its other scales, whose cost every sweep would measure."""
    tiny.write_text(tiny.read_text().partition("  wide:")[0])
    return tiny.parent


def start(folder: Path, results: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harness.cli.main", "sweep", "tiny.yaml", *OVERRIDES, "--results", results]
    return subprocess.Popen(command, cwd=folder, start_new_session=True, env={**os.environ})


def records(results: Path) -> list[Record]:
    return [Record(path) for path in sorted((results / "runs").glob("*"))]


def numbers(results: Path) -> dict[str, object]:
    return {record.cell_id: outcome.metrics for record in records(results) if (outcome := record.outcome())}


def wait_for(folder: Path, epoch: int) -> Record:
    """The first record that has got as far as this epoch."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for record in records(folder):
            if any(event.epoch >= epoch for event in record.events()):
                return record
        time.sleep(0.01)
    raise AssertionError("no cell got that far")


def test_killed_sweeps_and_cells_go_on_to_the_same_numbers(folder: Path) -> None:
    assert start(folder, "calm").wait(300) == 0

    # The sweep dies, and one of its cells; the other cell goes on alone.
    sweep = start(folder, "killed")
    victim = wait_for(folder / "killed", epoch=2)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()
    os.kill(victim.attempts()[-1].provenance().process.pid, signal.SIGKILL)
    finished_before = {record.cell_id for record in records(folder / "killed") if record.outcome()}

    assert start(folder, "killed").wait(300) == 0
    assert numbers(folder / "killed") == numbers(folder / "calm")
    assert len(victim.attempts()) == 2
    resumed = [json.loads(line) for line in (victim.attempts()[1].path / "events.jsonl").read_text().splitlines()]
    assert resumed[0]["epoch"] > 1, "the killed cell began again from nothing"
    for record in records(folder / "killed"):
        if record.cell_id in finished_before:
            assert len(record.attempts()) == 1, "a finished cell ran again"


def test_ctrl_c_stops_in_order_and_says_how_to_go_on(folder: Path) -> None:
    command = [sys.executable, "-m", "harness.cli.main", "sweep", "tiny.yaml", *OVERRIDES]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True) as sweep:
        stopped = wait_for(folder / "results", epoch=1)
        sweep.send_signal(signal.SIGINT)
        said, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 130
    assert "Go on with: harness sweep tiny.yaml 'axes.seed=[0]'" in said
    ended = stopped.attempts()[-1].outcome()
    assert ended is not None
    assert ended.state in ("interrupted", "finished")
    assert (stopped.attempts()[-1].path / "checkpoint.pt").exists()
