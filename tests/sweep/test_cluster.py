"""A submitted sweep, with a Slurm that is played: what is submitted, what is submitted again, and when waiting ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.manifest import Manifest
from harness.store.index import Index
from harness.sweep.cluster import Submitted, SubmittedSweep, cancel_queued, cluster_of, one_submitter, poll, resubmit
from tests.support.fake_slurm import FakeSlurm, sweep_of


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(monkeypatch)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def states(sweep: SubmittedSweep) -> list[str]:
    return [entry.state for entry in sweep.declared.plan_now().entries]


def test_no_more_cells_are_submitted_than_the_queue_has_room_for(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm, results: Path
) -> None:
    sweep = sweep_of(tiny, monkeypatch, "cluster.max_jobs=2")
    entries = sweep.declared.plan.entries
    assert sweep.submit(entries) == Submitted("tiny.demo.1", cells=2, left=1)
    assert sweep.in_queue() == 2
    assert slurm.commands == [("scontrol", "show", "config")]
    assert sweep_of(tiny, monkeypatch, "cluster.max_jobs=2").submit(entries) == Submitted("", cells=0, left=1)
    assert [path.name for path in (results / "sweeps").glob("tiny.*")] == ["tiny.demo.1"]
    assert Manifest.load(results / "sweeps/tiny.demo.1/manifest.json").cells == sweep.declared.manifest.cells


def test_two_submitters_at_once_do_not_submit_the_same_cells(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm, results: Path
) -> None:
    sweep = sweep_of(tiny, monkeypatch)
    with one_submitter(results), pytest.raises(UserError, match="another process is submitting cells"):
        sweep.submit(sweep.declared.plan.entries)
    assert slurm.commands == []
    assert states(sweep) == ["missing"] * 3


def test_a_cluster_that_does_not_answer_leaves_no_record(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm, results: Path
) -> None:
    sweep = sweep_of(tiny, monkeypatch)
    slurm.silent = True
    with pytest.raises(UserError, match="nothing is submitted twice"):
        sweep.submit(sweep.declared.plan.entries)
    assert not list((results / "runs").glob("*/cell.json"))


def test_waiting_submits_again_what_may_succeed_and_ends_when_nothing_may(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm
) -> None:
    sweep = sweep_of(tiny, monkeypatch, "failures.retries=1")
    slurm.acts = ["ok", "error", "diverged", "error"]
    sweep.submit(sweep.declared.plan.entries)
    seen = list(sweep.wait())
    assert [progress.submitted for progress in seen] == [Submitted("tiny.demo.1", 1), None]
    assert states(sweep) == ["finished", "failed", "failed"]
    assert seen[-1].counts == {"finished": 1, "failed": 2}


def test_waiting_goes_on_while_jobs_wait_and_says_for_what(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm, results: Path
) -> None:
    sweep = sweep_of(tiny, monkeypatch)
    sweep.submit(sweep.declared.plan.entries)
    waiting = sweep.wait()
    assert next(waiting).waits_for == {"Priority": 3}
    for entry, task in zip(sweep.declared.plan.entries, list(slurm.statuses), strict=True):
        slurm.run(entry.record, task, "ok")
    assert [progress.counts for progress in waiting] == [{"finished": 3}]
    assert sweep.in_queue() == 0


def test_a_cluster_that_refuses_is_asked_again_as_long_as_jobs_are_left(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm
) -> None:
    sweep = sweep_of(tiny, monkeypatch)
    slurm.acts = ["kill"]
    sweep.submit(sweep.declared.plan.entries)
    slurm.silent = True
    waiting = sweep.wait()
    assert [next(waiting).refusal.partition(";")[0] for _ in range(2)] == [
        "scontrol did not answer within 60 seconds"
    ] * 2
    for entry, task in list(zip(sweep.declared.plan.entries, slurm.statuses, strict=True))[1:]:
        slurm.run(entry.record, task, "ok")
    with pytest.raises(UserError, match="scontrol did not answer"):
        next(waiting)


def test_failed_cells_are_submitted_to_the_cluster_that_they_were_submitted_to(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm, results: Path
) -> None:
    sweep = sweep_of(tiny, monkeypatch, "cluster.grace=7")
    slurm.acts = ["diverged", "ok", "ok"]
    sweep.submit(sweep.declared.plan.entries)
    failed = sweep.declared.plan.entries[0].record
    cluster = cluster_of(failed)
    assert cluster
    assert cluster.grace == 7
    again = resubmit([("a cell", failed)], sweep.declared.manifest, results, "harness retry")
    assert again == Submitted("tiny.demo.2", 1)
    submitted = failed.submission()
    assert submitted
    assert submitted.run.source_hash, "the code of now"
    assert submitted.allocation
    assert submitted.allocation.grace_seconds == 7
    assert Index(results / "runs")[failed.cell_id].state == "queued"


def test_a_cell_that_ran_here_has_no_cluster(tmp_path: Path, make_record: Any) -> None:
    assert cluster_of(make_record()) is None


def test_withdrawn_cells_are_taken_out_of_the_queue(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm, results: Path
) -> None:
    sweep = sweep_of(tiny, monkeypatch)
    sweep.submit(sweep.declared.plan.entries)
    cancel_queued(results, {entry.cell.cell_id for entry in sweep.declared.plan.entries[1:]})
    assert slurm.commands[-1] == ("scancel", "100_1", "100_2")


def test_only_a_poll_that_settles_writes_into_records(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm, results: Path
) -> None:
    sweep = sweep_of(tiny, monkeypatch)
    slurm.acts = ["kill"]
    sweep.submit(sweep.declared.plan.entries)
    (attempt,) = sweep.declared.plan.entries[0].record.attempts()
    assert poll(results, settling=False) == ""
    assert attempt.outcome() is None
    assert poll(results, settling=True) == ""
    outcome = attempt.outcome()
    assert outcome
    assert outcome.cause == "node_failure"
