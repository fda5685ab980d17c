"""The outcomes of attempts that could not write them: their job was killed, or failed before its cell began.

Only the scheduler knows how such an attempt ended. What it says is written into the record, so that the record says it
when the scheduler has forgotten the job.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.environment.job import SchedulerJob
from harness.store.outcome import Outcome
from harness.store.provenance import ComputeEnvironment, Provenance
from harness.store.record import Attempt, Busy, Record
from harness.store.submission import Submission
from harness.store.sweeps.job_arrays import GONE, JobArray, JobStatus
from harness.sweep.run.retry import EndKind, failure_kind
from harness.sweep.run.scheduler import JobState
from harness.sweep.slurm.commands import job_info
from harness.sweep.slurm.scheduler import SlurmScheduler

#: The cause of an interrupted attempt without an outcome, by the state of its job.
INTERRUPTED = {"TIMEOUT": "time_limit", "PREEMPTED": "preempted", "CANCELLED": "cancelled"}
#: submitit's message in a job whose submitter died before it wrote the job's task.
NO_PICKLE = "could not find submitted jobs"


def record_lost_outcomes(scheduler: SlurmScheduler) -> None:
    """Write into the records how attempts ended whose tasks are over and that could not write it themselves."""
    batches = scheduler.batches
    if batches.queue.settled:
        return
    for batch in batches.all:
        for number, cells in enumerate(batch.tasks):
            task = batch.task_id(number)
            status = batches.queue.statuses.get(task) if batch.job else None
            if status and status.over:
                records = [Record(scheduler.runs / cell_id) for cell_id in cells]
                _record_lost_outcomes_of_task(records, status, batch, task, scheduler)
    batches.write_queue(replace(batches.queue, settled=True))


def _record_lost_outcomes_of_task(
    records: Sequence[Record], status: JobStatus, batch: JobArray, task: str, scheduler: SlurmScheduler
) -> None:
    """End the attempts that one task left without an outcome; if it failed before any began, fail its cells."""
    attempts = [attempt for record in records for attempt in record.attempts() if _of_task(attempt, task)]
    failed = job_info(status).state is JobState.FAILED
    for attempt in attempts:
        # A job that Slurm does not know any more may still run, on a node that cannot be reached.
        unknown = status.state == GONE and attempt.alive()
        if unknown or attempt.superseded() or attempt.record.outcome_file.exists() or attempt.outcome_now():
            continue
        if failed:
            _fail(attempt, status, scheduler, task)
        else:
            attempt.end(Outcome("interrupted", cause=INTERRUPTED.get(status.state, "node_failure")))
    if failed and not attempts:
        for record in records:
            _fail_before_beginning(record, status, batch, task, scheduler)


def _of_task(attempt: Attempt, task: str) -> bool:
    scheduler = attempt.provenance().environment.scheduler
    return scheduler is not None and scheduler.task == task


def _fail_before_beginning(
    record: Record, status: JobStatus, batch: JobArray, task: str, scheduler: SlurmScheduler
) -> None:
    """Add a failed attempt for a job that ended before its cell began, unless the cell was submitted or begun since."""
    submission = record.submission() or Submission()
    is_of_task = (submission.sweep, submission.batch) == (scheduler.ledger.path.name, batch.number)
    error, _ = _last_error_line(scheduler.profile.folder, task)
    orphaned = NO_PICKLE in error
    if not is_of_task or orphaned or submission.withdrawn or submission.attempts_before != len(record.attempts()):
        return
    try:
        environment = ComputeEnvironment(scheduler=SchedulerJob(job="", task=task, restart=0))
        attempt = record.begin(Provenance(submission, environment))
    except Busy:
        return
    attempt.log("stderr").write_text(_error_output(scheduler.profile.folder, task), encoding="utf-8")
    _fail(attempt, status, scheduler, task)


def _fail(attempt: Attempt, status: JobStatus, scheduler: SlurmScheduler, task: str) -> None:
    """End an attempt as failed, with the state of its job and the last line on its standard error."""
    line, short_of_memory = _last_error_line(scheduler.profile.folder, task)
    why = f"job {task} {status.state.lower().replace('_', ' ')} ({status.why})"
    if short_of_memory or status.state == "OUT_OF_MEMORY":
        error, cause = f"{why}: more memory than cluster.memory allows: {line}", "out_of_memory"
    else:
        error, cause = f"{why}: {line or 'nothing on standard error'}", "error"
    attempt.fail(error, cause)
    if outcome := attempt.outcome():
        final = failure_kind(outcome.cause) is EndKind.FATAL
        scheduler.ledger.failed(attempt.record.cell_id, outcome.cause, outcome.error, final=final)


def _error_output(folder: Path, task: str) -> str:
    """Return what the job's ranks wrote to standard error."""
    paths = sorted(folder.glob(f"{task}_*_log.err"))
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)


def _last_error_line(folder: Path, task: str) -> tuple[str, bool]:
    """Return the last line of the job itself on standard error, and whether a line says that memory was too small."""
    lines = [line for line in _error_output(folder, task).splitlines() if line.strip()]
    memory = [line for line in lines if re.search(r"exceeded memory limit|oom.kill", line, re.IGNORECASE)]
    of_job = [line for line in lines if not line.startswith(("srun:", "slurmstepd"))]
    return (memory or of_job or lines or [""])[-1][:500], bool(memory)
