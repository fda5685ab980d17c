"""One table of cases for the retry policy: the rule itself, a sweep on this machine, and a submitted sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cell import Cell
from harness.store.record import Record
from harness.store.submission import Submission
from harness.store.sweeps.job_arrays import JobArrays
from harness.store.sweeps.ledger import Ledger, Policy
from harness.sweep.run.retry import KILLS, Ending, EndKind, runs_again
from harness.sweep.run.supervisor import Task, supervise
from harness.sweep.slurm.endings import endings, is_submitted_again
from tests.sweep.run.fake_scheduler import FakeScheduler, begin, perform

KINDS = {
    "ok": EndKind.FINISHED,
    "error": EndKind.ERROR,
    "diverged": EndKind.FATAL,
    "kill": EndKind.KILLED,
    "preempt": EndKind.KILLED,
    "cancel": EndKind.CANCELLED,
}
#: What the tries at a cell did, with the step that they logged (see fake_scheduler); the retries; whether it goes on.
CASES = [
    ([], 1, True),
    (["ok"], 1, False),
    (["cancel"], 1, False),
    (["diverged"], 3, False),
    (["error"], 0, False),
    (["error"], 1, True),
    (["error", "error"], 1, False),
    (["error", "error"], 2, True),
    (["error", "kill", "error"], 1, False),
    (["kill"], 0, True),
    (["preempt"], 0, True),
    (["kill"] * (KILLS - 1), 0, True),
    (["kill"] * KILLS, 0, False),
    (["preempt"] * KILLS, 0, False),
    (["kill", "preempt"] * KILLS, 0, False),
    (["kill:5"] * KILLS, 0, False),
    ([f"kill:{step}" for step in range(KILLS)], 0, True),
    ([*["kill:1"] * (KILLS - 1), "kill:2"], 0, True),
    (["kill"] * (KILLS - 1) + ["error", "kill"], 1, False),
    (["kill", "error", "preempt"], 1, True),
]
cases = pytest.mark.parametrize(("acts", "retries", "again"), CASES)


def ends(acts: list[str]) -> list[Ending]:
    found, reached = [], -1
    for act in acts:
        kind, _, step = act.partition(":")
        reached = max(reached, int(step or -1))
        found.append(Ending(KINDS[kind], reached))
    return found


@cases
def test_the_rule(acts: list[str], retries: int, again: bool) -> None:
    assert runs_again(ends(acts), retries) is again


@cases
def test_a_sweep_on_this_machine(tmp_path: Path, acts: list[str], retries: int, again: bool) -> None:
    """It makes one attempt more exactly where the rule says so, unless an earlier act ends the cell."""
    cell = Cell()
    task = Task(Record(tmp_path / "runs" / cell.cell_id), cell, "a cell", Submission(experiment="x"))
    ledger = Ledger.open(tmp_path, "x.demo", Policy(retries=retries))
    supervise([task], FakeScheduler({cell.cell_id: [*acts, "ok"]}), ledger, lambda *_: None)
    ended_before = any(not runs_again(ends(acts[:count]), retries) for count in range(1, len(acts)))
    assert ended_before or len(task.record.attempts()) == len(acts) + again


@cases
def test_a_submitted_sweep(tmp_path: Path, acts: list[str], retries: int, again: bool) -> None:
    ledger = Ledger.open(tmp_path, "x.demo", Policy(retries=retries))
    record = Record.prepare(tmp_path / "runs", Cell())
    for act in acts:
        perform(act, begin(record, Submission(sweep=ledger.path.name)))
    assert endings(record, ledger) == ends(acts)
    assert is_submitted_again(record, ledger) is again


def test_attempts_of_an_earlier_sweep_do_not_count(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path, "x.demo", Policy(retries=0))
    record = Record.prepare(tmp_path / "runs", Cell())
    perform("error", begin(record, Submission(sweep="x.demo.0")))
    assert is_submitted_again(record, ledger)


@pytest.mark.parametrize(("jobs", "again"), [(KILLS - 1, True), (KILLS, False)])
def test_jobs_that_end_before_their_cell_begins_count_as_kills(tmp_path: Path, jobs: int, again: bool) -> None:
    ledger = Ledger.open(tmp_path, "x.demo", Policy())
    record = Record.prepare(tmp_path / "runs", Cell())
    for _ in range(jobs):
        JobArrays(ledger.path).add([[record.cell_id]])
    assert is_submitted_again(record, ledger) is again


def test_a_withdrawn_cell_is_left_alone(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path, "x.demo", Policy())
    record = Record.prepare(tmp_path / "runs", Cell())
    record.submit(Submission(sweep=ledger.path.name))
    record.withdraw()
    assert not is_submitted_again(record, ledger)
