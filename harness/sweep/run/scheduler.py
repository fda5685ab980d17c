"""The protocol of a scheduler: what a sweep needs from whatever runs its cells.

``harness.sweep.run.local_scheduler`` runs them on this machine, in a queue that lives in the sweep's process, which
watches them. The scheduler of a cluster (``harness.sweep.cluster``) lets them go on when the sweep's process has ended,
and is asked about the jobs of all sweeps in one query. What became of a cell is read from its record; a scheduler knows
only what became of the cell's job.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from harness.cell import Cell
from harness.store.maintenance.repair import repair
from harness.store.record import Record
from harness.store.submission import Submission


class JobState(Enum):
    """Whether a job has begun, and how it ended."""

    PENDING = "pending"
    RUNNING = "running"
    #: The job ended by itself without an error, or was cancelled before it began; the record says what it did.
    DONE = "done"
    #: The job ended with an error.
    FAILED = "failed"
    #: The job was killed from outside, its node died, or the scheduler does not know it any more.
    LOST = "lost"

    @property
    def over(self) -> bool:
        """Whether a job in this state runs no more."""
        return self in (JobState.DONE, JobState.FAILED, JobState.LOST)


@dataclass(frozen=True)
class JobInfo:
    """What a scheduler knows of a job: its state, and why it waits or how it ended."""

    state: JobState
    reason: str = ""


@dataclass(frozen=True)
class Job:
    """One cell to run: its record, the cell itself, its name for people, and how it is run."""

    record: Path
    cell: Cell
    name: str
    submission: Submission

    def prepare(self) -> Record:
        """Return the job's record, and create it where it does not exist yet; what is damaged in it is set aside."""
        repair(Record(self.record), self.cell)
        return Record.prepare(self.record.parent, self.cell)

    @property
    def threads(self) -> int:
        """The number of threads of each of its processes."""
        return self.submission.run.threads

    @property
    def world_size(self) -> int:
        """The number of its processes, the ranks."""
        return self.submission.run.world_size

    @property
    def memory(self) -> int:
        """The bytes that the cell needs; 0 if they are not known, and on GPUs, where each process has its own."""
        return self.submission.run.memory


class Scheduler(Protocol):
    """Whatever runs jobs. Its ids are valid for as long as its queue exists."""

    def scripts(self, jobs: Sequence[Job]) -> Iterator[str]:
        """Yield shell scripts that run these jobs as ``submit`` would; it has no effects, so a dry run is exact."""
        ...

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """Queue these jobs and return their ids, in the same order.

        A scheduler of this machine expects that their records are prepared; that of a cluster prepares them once it
        knows that the cluster answers.
        """
        ...

    def cancel(self, ids: Collection[str], at_once: bool = False) -> None:
        """Ask running jobs to stop at their next checkpoint, or end them ``at_once``; pending ones never start."""
        ...


class WatchedScheduler(Scheduler, Protocol):
    """A scheduler whose jobs a process watches until the last one is over."""

    def status(self, ids: Collection[str], timeout: float = 0.0) -> Mapping[str, JobInfo]:
        """Return what is known of these jobs, asked in one query.

        With a timeout, return as soon as one of the jobs is over, or after so many seconds.
        """
        ...
