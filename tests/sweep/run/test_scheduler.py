"""A sweep needs nothing but the four methods of a scheduler: a fake one runs it to its end."""

from __future__ import annotations

from pathlib import Path

from harness.cell import Cell
from harness.store.record import Record
from harness.store.submission import Submission
from harness.store.sweeps.ledger import Ledger, Policy
from harness.sweep.run.scheduler import JobState, WatchedScheduler
from harness.sweep.run.supervisor import Task, supervise
from tests.sweep.run.fake_scheduler import FakeScheduler

ACTS = {
    0: ["ok"],
    1: ["error", "ok"],
    2: ["diverged"],
    3: ["kill", "preempt", "ok"],
    4: ["cancel"],
    5: ["error"],
}


def test_a_fake_scheduler_runs_a_sweep_to_its_end(tmp_path: Path) -> None:
    cells = {seed: Cell(seed=seed) for seed in ACTS}
    records = {seed: Record(tmp_path / "runs" / cell.cell_id) for seed, cell in cells.items()}
    tasks = [Task(records[seed], cells[seed], f"seed={seed}", Submission(experiment="x")) for seed in ACTS]
    scheduler: WatchedScheduler = FakeScheduler({cells[seed].cell_id: acts for seed, acts in ACTS.items()})
    ledger = Ledger.open(tmp_path, "x.demo", Policy(max_identical_failures=9))
    ended = {state.task.name: state.ended for state in supervise(tasks, scheduler, ledger, lambda *_: None)}
    assert ended == {
        "seed=0": "finished",
        "seed=1": "finished",
        "seed=2": "FAILED: diverged",
        "seed=3": "finished",
        "seed=4": "cancelled",
        "seed=5": "FAILED: error",
    }
    assert [len(record.attempts()) for record in records.values()] == [1, 2, 1, 3, 1, 2]


def test_a_job_is_over_once_it_is_done_has_failed_or_is_lost() -> None:
    assert [state.value for state in JobState if state.over] == ["done", "failed", "lost"]
