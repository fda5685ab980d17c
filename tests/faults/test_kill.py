"""kill -9 of a sweep and of its cells: the same command again finishes, with the numbers of a calm sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.store.record import Record
from tests.faults.machines import wait_until
from tests.faults.one_cell import OneCell, epochs_again

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


@pytest.mark.tried("kills", "a sweep, then one of its two workers")
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


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "victim",
    [
        pytest.param(victim, marks=pytest.mark.tried("kills", what))
        for victim, what in {
            "sweep": "a sweep of one cell",
            "worker": "the worker of a cell",
            "launcher": "the launcher of a cell of two ranks",
            "0": "the first rank of two",
            "1": "the second rank of two",
        }.items()
    ],
)
def test_a_process_that_is_killed_again_and_again_costs_epochs_and_no_number(
    victim: str, tiny: Path, record_property: Callable[[str, object], None]
) -> None:
    wild, kills = OneCell(tiny.parent, 1 if victim in ("sweep", "worker") else 2), 0
    while kills < 3 and wild.record.outcome() is None:
        before = len(wild.record.events())
        wait_until(lambda: len(wild.record.events()) > before or wild.record.outcome())  # noqa: B023  (called at once)
        pid = wild.process(victim)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            kills += 1
        if victim == "sweep":
            wild.sweep.communicate()
            wild.sweep = wild.start("node1")
    wild.check()
    assert kills > 0
    record_property("times", kills)
    record_property("again", epochs_again(wild.record))


BUSY = "while True: pass"


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.tried("load", "six busy processes beside a sweep and its cell of one or two ranks")
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_busy_machine_changes_no_number(
    ranks: int, tiny: Path, record_property: Callable[[str, object], None]
) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(6)]
    try:
        wild = OneCell(tiny.parent, ranks)
        assert "1 running" in wild.status("node2") or wild.record.outcome()
        wild.check()
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert len(wild.record.attempts()) == 1
    record_property("again", epochs_again(wild.record))
