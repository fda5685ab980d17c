"""The protocol of an executor.

A job is one prepared record and what it needs; its identity on the way is the id that ``submit`` returns. A scheduler
keeps jobs running when the submitting process is gone; the local executor's queue lives in that process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from harness.store.submission import Submission

JobState = Literal["queued", "running", "ended"]

#: How the last words of a job begin whose process was ended by a signal, which they name.
KILLED = "killed by "


@dataclass(frozen=True)
class Job:
    """One prepared record and how it is run; ``name``: experiment and cell, for people."""

    record: Path
    name: str
    submission: Submission

    @property
    def threads(self) -> int:
        return self.submission.run.threads

    @property
    def world_size(self) -> int:
        return self.submission.run.world_size

    @property
    def memory(self) -> int:
        """Bytes that the cell needs; 0 where nobody knows, or on GPUs, of which every process has one to itself."""
        return self.submission.run.memory


class Executor(Protocol):
    """What became of a cell is read from its record, not from here."""

    def script(self, job: Job) -> str:
        """A shell script that runs the job as ``submit`` would; free of effects, so that a dry run is exact."""
        ...

    def submit(self, job: Job) -> str:
        """Queue the job and return its id."""
        ...

    def poll(self, ids: Collection[str]) -> Mapping[str, JobState]:
        """The states of all these jobs in one query."""
        ...

    def wait(self, seconds: float) -> None:
        """Until a job may have changed, and at most so long."""
        ...

    def exit_reason(self, job_id: str) -> str:
        """Why an ended job did not finish, where its record may not know: killed by a signal, or never begun."""
        ...

    def cancel(self, ids: Collection[str]) -> None:
        """Ask the jobs to stop at their next checkpoint; those still queued never start."""
        ...

    def kill(self) -> None:
        """End everything that was submitted, now."""
        ...
