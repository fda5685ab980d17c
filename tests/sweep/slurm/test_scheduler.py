"""Batches of a submitted sweep: how cells are grouped, and what the scheduler's words mean. (With a real Slurm:
tests/slurm.)"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from submitit.core.utils import DelayedSubmission

from harness.cell import Cell
from harness.environment.job import SchedulerJob
from harness.environment.process import ProcessIdentity
from harness.errors import UserError
from harness.store.index import Index
from harness.store.provenance import ComputeEnvironment, Provenance
from harness.store.record import Record
from harness.store.submission import Allocation, RunConfig, Submission
from harness.store.sweeps.job_arrays import JobArray, JobArrays, JobStatus, Queue
from harness.store.sweeps.ledger import Ledger, Policy
from harness.sweep.expand.resources import Resources
from harness.sweep.run.scheduler import Job, JobState, Scheduler
from harness.sweep.slurm import scheduler as module
from harness.sweep.slurm.commands import Profile, Slurm, Unreachable, job_info, refused
from harness.sweep.slurm.lost_outcomes import record_lost_outcomes
from harness.sweep.slurm.scheduler import (
    SUBMITTING_SECONDS,
    SlurmScheduler,
    arrays,
    comment,
    open_sweeps,
    poll_scheduler,
)
from tests.support.ways_of_damage import WAYS

ONE, TWO = Resources(1, 1, 10.0), Resources(2, 1, 10.0)


@pytest.fixture
def slurm(tmp_path: Path) -> SlurmScheduler:
    ledger = Ledger.open(tmp_path, "x.demo", Policy(), cluster={"grace": 10}, user="me")
    ledger.close()
    return SlurmScheduler.of(ledger)


def submitted(slurm: SlurmScheduler, *cells: Cell, ago: float = 1000.0) -> JobArray:
    """One array of these cells, as the scheduler took it so many seconds ago."""
    for cell in cells:
        Record.prepare(slurm.ledger.path.parents[1] / "runs", cell).submit(
            Submission(sweep=slurm.ledger.path.name, batch=1)
        )
    batch = replace(slurm.batches.add([[cell.cell_id] for cell in cells]), job="7", submitted=time.time() - ago)
    slurm.batches.write(batch)
    return batch


def hear(
    monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler, queue: dict[str, JobStatus], past: dict[str, JobStatus]
) -> None:
    """One look at a scheduler that says so."""
    monkeypatch.setattr(Slurm, "queue", lambda self, users: (queue, {}))
    monkeypatch.setattr(Slurm, "past", lambda self, jobs, since: past)
    poll_scheduler([slurm], at_once=True)


def of_job(job: str, task: str) -> Provenance:
    """The provenance of an attempt that a scheduler's job began."""
    return Provenance(environment=ComputeEnvironment(scheduler=SchedulerJob(job, task, 0)))


def states(slurm: SlurmScheduler, *cells: Cell) -> list[str]:
    index = Index(slurm.ledger.path.parents[1] / "runs")
    return [index[cell.cell_id].state for cell in cells]


CELLS = [Cell(seed=seed) for seed in range(3)]


def jobs(count: int, two: Collection[int] = ()) -> list[Job]:
    """Jobs of one process, or of two on one node."""
    allocation = Allocation(nodes=1, minutes=10.0, grace_seconds=10)
    configs = (RunConfig(world_size=2 if number in two else 1) for number in range(count))
    return [
        Job(Path(f"{number:012x}"), Cell(seed=number), f"seed={number}", Submission(run=run, allocation=allocation))
        for number, run in enumerate(configs)
    ]


def test_cells_are_grouped_by_resources_packed_and_cut_into_arrays() -> None:
    some = jobs(12, two=(3, 7, 11))
    found = [(resources, [len(pack) for pack in packs]) for resources, packs in arrays(some, cells_per_job=2, most=3)]
    assert found == [(ONE, [2, 2, 2]), (ONE, [2, 1]), (TWO, [2, 1])]
    together = [job.name for _, packs in arrays(some, 2, 3) for pack in packs for job in pack]
    assert sorted(together) == sorted(job.name for job in some)


def test_cells_are_submitted_cancelled_and_known_by_their_tasks(
    monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler
) -> None:
    scheduler: Scheduler = slurm
    commands: list[tuple[str, ...]] = []

    def ask(self: Slurm, *command: str) -> str:
        commands.append(command)
        return "MaxArraySize = 2" if command[0] == "scontrol" else ""

    monkeypatch.setattr(Slurm, "ask", ask)
    monkeypatch.setattr(Profile, "submit", lambda self, name, comment, tasks, resources: str(len(tasks)))
    assert scheduler.submit(of_cells(slurm)) == ["2_0", "2_1", "1"]
    assert commands == [("scontrol", "show", "config")], "Slurm is asked once for all cells"
    records = [Record(slurm.runs / cell.cell_id) for cell in CELLS]
    assert [record.cell() for record in records] == CELLS
    assert [submission.batch for record in records if (submission := record.submission())] == [1, 1, 2]
    assert [slurm.batches.job_status(cell.cell_id) for cell in CELLS] == [JobStatus("PENDING", "submitted")] * 3
    assert slurm.open_tasks([cell.cell_id for cell in CELLS[1:]]) == ["2_1", "1"]
    scheduler.cancel(["2_1", "1"])
    scheduler.cancel(["2_0"], at_once=True)
    assert commands[-2:] == [("scancel", "1", "2_1"), ("scancel", "--signal=KILL", "--full", "2_0")]


def of_cells(slurm: SlurmScheduler) -> list[Job]:
    """Jobs of CELLS, which have no records yet."""
    return [replace(job, record=slurm.runs / job.cell.cell_id) for job in jobs(len(CELLS))]


def test_a_sweep_that_slurm_does_not_answer_prepares_no_record(
    monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler
) -> None:
    def silent(*_: Any) -> Any:
        raise Unreachable("scontrol did not answer within 60 seconds")

    monkeypatch.setattr(Slurm, "ask", silent)
    with pytest.raises(UserError, match=r"scontrol did not answer.*; 0 of 3 cells are submitted"):
        slurm.submit(of_cells(slurm))
    assert not slurm.runs.exists()
    assert slurm.batches.all == []


def test_a_lost_job_gets_the_files_that_its_submitter_would_have_written(
    monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler
) -> None:
    """Above all its own time limit, which need not be the profile's: its cells may have resources of their own."""
    monkeypatch.setattr(Slurm, "most_array_tasks", lambda self: 2)
    monkeypatch.setattr(
        Profile, "submit", lambda self, name, comment, tasks, resources: ""
    )  # it died before it had an id
    slurm.submit(of_cells(slurm)[:2])
    (batch,) = slurm.batches.all
    slurm.batches.write(replace(batch, submitted=time.time() - 10 * SUBMITTING_SECONDS - 1))
    monkeypatch.setattr(Slurm, "queue", lambda self, users: ({}, {batch.name: "7"}))
    poll_scheduler([slurm], at_once=True)
    assert [array.job for array in slurm.batches.all] == ["7"]
    written = [DelayedSubmission.load(slurm.profile.folder / f"7_{task}_submitted.pkl") for task in range(2)]
    assert [delayed.function.records for delayed in written] == [
        (str((slurm.runs / cell.cell_id).absolute()),) for cell in CELLS[:2]
    ]
    assert {delayed._timeout_min for delayed in written} == {10}
    assert slurm.cluster.time is None


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("PENDING", JobState.PENDING),
        ("RUNNING", JobState.RUNNING),
        ("COMPLETING", JobState.RUNNING),
        ("COMPLETED", JobState.DONE),
        ("FAILED", JobState.FAILED),
        ("OUT_OF_MEMORY", JobState.FAILED),
        ("NODE_FAIL", JobState.LOST),
        ("TIMEOUT", JobState.LOST),
        ("GONE", JobState.LOST),
    ],
)
def test_what_a_word_of_slurm_means(word: str, state: JobState) -> None:
    assert job_info(JobStatus(word)).state is state


def test_a_comment_names_the_cells_and_stays_short() -> None:
    batch = JobArray(1, "x.demo.1-1-abcdef", [[f"{number:012x}"] for number in range(1000)], 0.0)
    assert comment(batch).startswith("harness x.demo.1: 000000000000 000000000001 ")
    assert comment(batch).endswith(" and 960 more")
    assert len(comment(batch)) < 1000


def test_a_batch_without_an_id_waits_and_one_that_slurm_refused_is_none(slurm: SlurmScheduler) -> None:
    batch = submitted(slurm, *CELLS)
    slurm.batches.write(replace(batch, job=""))
    assert states(slurm, *CELLS) == ["queued"] * 3
    slurm.batches.write(replace(batch, job="", failed="no such partition"))
    assert states(slurm, *CELLS) == ["missing"] * 3


def test_what_is_submitted_while_slurm_answers_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler
) -> None:
    """Its answer may be older than the job; a second submission would follow."""
    submitted(slurm, *CELLS, ago=1.0)
    hear(monkeypatch, slurm, {}, {})
    assert states(slurm, *CELLS) == ["queued"] * 3


def test_what_neither_the_queue_nor_the_accounting_knows_is_over(
    monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler
) -> None:
    submitted(slurm, *CELLS, ago=SUBMITTING_SECONDS + 10)
    hear(monkeypatch, slurm, {"7_0": JobStatus("PENDING", "Priority")}, {"7_1": JobStatus("RUNNING")})
    assert states(slurm, *CELLS) == ["queued", "queued", "missing"]


def test_a_living_attempt_of_a_job_that_only_vanished_goes_on(
    monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler
) -> None:
    submitted(slurm, CELLS[0], CELLS[1])
    attempt = Record(slurm.ledger.path.parents[1] / "runs" / CELLS[0].cell_id).begin(
        replace(of_job("8", "7_0"), process=replace(ProcessIdentity.current(), host="node1", boot=""))
    )
    hear(monkeypatch, slurm, {"7_1": JobStatus("RUNNING")}, {})
    record_lost_outcomes(slurm)
    assert attempt.outcome() is None
    assert states(slurm, CELLS[0]) == ["running"]


def test_a_cell_of_a_failed_pack_that_was_withdrawn_is_not_failed(
    monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler
) -> None:
    batch = submitted(slurm, *CELLS[:2])
    slurm.batches.write(replace(batch, tasks=[[cell.cell_id for cell in CELLS[:2]]]))
    runs = slurm.ledger.path.parents[1] / "runs"
    Record(runs / CELLS[0].cell_id).withdraw()
    last = Record(runs / CELLS[1].cell_id).begin(of_job("7", "7"))
    last.fail("boom")
    hear(monkeypatch, slurm, {"7": JobStatus("FAILED", "exit code 1:0")}, {})
    record_lost_outcomes(slurm)
    assert states(slurm, *CELLS[:2]) == ["missing", "failed"]


def test_a_job_that_was_over_and_is_requeued_waits_again(
    monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler
) -> None:
    submitted(slurm, CELLS[0], CELLS[1])
    hear(monkeypatch, slurm, {"7_0": JobStatus("NODE_FAIL"), "7_1": JobStatus("PENDING")}, {})
    assert states(slurm, *CELLS[:2]) == ["missing", "queued"]
    hear(monkeypatch, slurm, {"7_0": JobStatus("PENDING", "BeginTime"), "7_1": JobStatus("PENDING")}, {})
    assert states(slurm, *CELLS[:2]) == ["queued", "queued"]


@pytest.mark.parametrize(
    ("said", "state", "cause"),
    [
        (JobStatus("TIMEOUT"), "missing", "time_limit"),
        (JobStatus("CANCELLED"), "missing", "cancelled"),
        (JobStatus("NODE_FAIL"), "missing", "node_failure"),
        (JobStatus("OUT_OF_MEMORY"), "failed", "out_of_memory"),
        (JobStatus("FAILED", "exit code 0:9"), "failed", "error"),
    ],
)
def test_an_attempt_that_could_not_say_how_it_ended(
    monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler, said: JobStatus, state: str, cause: str
) -> None:
    """Somebody looked before (status), and settled nothing: the next verb that may write does."""
    submitted(slurm, CELLS[0], CELLS[1])
    runs = slurm.ledger.path.parents[1] / "runs"
    attempt = Record(runs / CELLS[0].cell_id).begin(of_job("8", "7_0"))
    hear(monkeypatch, slurm, {"7_0": said, "7_1": JobStatus("RUNNING")}, {})
    (again,) = open_sweeps(slurm.ledger.path.parents[1])
    record_lost_outcomes(again)
    outcome = attempt.outcome()
    assert outcome
    assert outcome.cause == cause
    assert states(slurm, CELLS[0]) == [state]


def test_a_job_that_fails_before_its_cell_begins_leaves_its_words(
    monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler
) -> None:
    submitted(slurm, CELLS[0], CELLS[1])
    jobs = slurm.ledger.path / "jobs"
    jobs.mkdir()
    (jobs / "7_0_0_log.err").write_text("bash: module: command not found\n")
    hear(monkeypatch, slurm, {"7_0": JobStatus("FAILED", "exit code 127:0"), "7_1": JobStatus("RUNNING")}, {})
    record_lost_outcomes(slurm)
    record_lost_outcomes(slurm)
    (attempt,) = Record(slurm.ledger.path.parents[1] / "runs" / CELLS[0].cell_id).attempts()
    outcome = attempt.outcome()
    assert outcome
    assert "module: command not found" in outcome.error
    assert attempt.provenance().submission.sweep == slurm.ledger.path.name
    assert [failure.cause for failure in slurm.ledger.failures()] == ["error"]


def test_settled_sweeps_are_not_looked_at_again(monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler) -> None:
    submitted(slurm, CELLS[0])
    hear(monkeypatch, slurm, {"7": JobStatus("COMPLETED")}, {})
    results = slurm.ledger.path.parents[1]
    assert len(open_sweeps(results)) == 1
    record_lost_outcomes(slurm)
    assert open_sweeps(results) == []


@pytest.mark.parametrize("way", WAYS)
def test_jobs_of_a_sweep_whose_ledger_is_damaged_are_asked_about(
    monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler, way: Callable[[Path], None]
) -> None:
    submitted(slurm, CELLS[0])
    way(slurm.ledger.path / "sweep.json")
    (sweep,) = open_sweeps(slurm.ledger.path.parents[1])
    hear(monkeypatch, sweep, {"7": JobStatus("COMPLETED")}, {})
    assert list(JobArrays(slurm.ledger.path).open_cells()) == []


def test_questions_become_rarer_while_nothing_changes(monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler) -> None:
    submitted(slurm, CELLS[0])
    pauses = []
    for _ in range(8):
        hear(monkeypatch, slurm, {"7": JobStatus("PENDING", "Priority")}, {})
        pauses.append(slurm.batches.queue.pause)
    assert pauses[:3] == [30.0, 45.0, 67.5]
    assert pauses[-1] == module.LONGEST_PAUSE_SECONDS
    hear(monkeypatch, slurm, {"7": JobStatus("RUNNING")}, {})
    assert slurm.batches.queue.pause == 30.0


def test_a_cluster_that_does_not_answer_changes_nothing(monkeypatch: pytest.MonkeyPatch, slurm: SlurmScheduler) -> None:
    submitted(slurm, CELLS[0])
    hear(monkeypatch, slurm, {"7": JobStatus("RUNNING")}, {})
    before = slurm.batches.queue

    def silent(*_: Any) -> Any:
        raise Unreachable("squeue did not answer within 60 seconds")

    monkeypatch.setattr(Slurm, "queue", silent)
    assert "did not answer" in poll_scheduler([slurm], at_once=True)
    assert slurm.batches.queue == before


def test_a_damaged_answer_is_none(slurm: SlurmScheduler) -> None:
    submitted(slurm, CELLS[0])
    (slurm.ledger.path / "queue.json").write_text("{")
    assert JobArrays(slurm.ledger.path).queue == Queue()


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("sbatch: error: invalid partition specified: x", "cluster.partition"),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition", "cluster.account"),
        ("sbatch: error: Batch job submission failed: Requested time limit is invalid", "cluster.time"),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "cluster.qos"),
        ("sbatch: error: Memory specification can not be satisfied", "cluster.memory"),
        ("sbatch: error: Batch job submission failed: Invalid feature specification", "cluster.constraint"),
    ],
)
def test_what_sbatch_refuses_names_the_key(words: str, key: str) -> None:
    assert key in str(refused(words))


def test_a_silent_controller_is_no_refusal() -> None:
    assert isinstance(refused("sbatch: error: Unable to contact slurm controller (connect failure)"), Unreachable)
