"""A scheduler that computes nothing: a job is over at once, and does what ``acts`` says of its cell.

The n-th attempt does the n-th act (the last one from then on): ok, error, diverged, kill, preempt or cancel; ``:STEP``
behind it is the step that the attempt logs first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.environment.process import ProcessIdentity
from harness.store.outcome import Outcome
from harness.store.provenance import Provenance
from harness.store.record import Attempt, Record
from harness.store.submission import Submission
from harness.sweep.run.scheduler import Job, JobInfo, JobState


class FakeScheduler:
    def __init__(self, acts: Mapping[str, Sequence[str]]) -> None:
        self.acts = acts
        self.jobs: list[JobInfo] = []

    def scripts(self, jobs: Sequence[Job]) -> Iterator[str]:
        return (f"true {job.name}" for job in jobs)

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        first = len(self.jobs)
        self.jobs += [self._run(job) for job in jobs]
        return [str(number) for number in range(first, len(self.jobs))]

    def status(self, ids: Collection[str], timeout: float = 0.0) -> Mapping[str, JobInfo]:
        return {job_id: self.jobs[int(job_id)] for job_id in ids}

    def cancel(self, ids: Collection[str], at_once: bool = False) -> None:
        pass

    def _run(self, job: Job) -> JobInfo:
        record = Record(job.record)
        acts = self.acts[record.cell_id]
        act = acts[min(len(record.attempts()), len(acts) - 1)]
        return perform(act, begin(record, job.submission))


def begin(record: Record, submission: Submission) -> Attempt:
    """Begin an attempt of a process that is dead by now."""
    return record.begin(Provenance(submission, process=replace(ProcessIdentity.current(), pid_started="never")))


def perform(act: str, attempt: Attempt) -> JobInfo:
    """Let one attempt end as the act says; return what a scheduler knows of its job."""
    kind, _, step = act.partition(":")
    if step:
        attempt.log_event(int(step), {"loss": 1.0})
    if kind == "ok":
        attempt.end(Outcome("finished", metrics={}, seconds=0.0))
    elif kind in ("error", "diverged"):
        attempt.fail(kind, kind)
        return JobInfo(JobState.FAILED, kind)
    elif kind == "kill":
        return JobInfo(JobState.LOST, "killed by SIGKILL")
    else:
        attempt.end(Outcome("interrupted", cause="cancelled" if kind == "cancel" else "preempted"))
    return JobInfo(JobState.DONE)
