"""The protocol of an executor.

A job is one prepared record and what it needs; its identity on the way is the id that ``submit`` returns. A scheduler
keeps jobs running when the submitting process is gone; the local executor's queue lives in that process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

JobState = Literal["queued", "running", "ended"]

#: How the last words of a job begin whose process was ended by a signal, which they name.
KILLED = "killed by "


@dataclass(frozen=True)
class Job:
    """``name``: experiment and cell, for people; ``submission``: what the run is told (data, device, threads of each
    of its ``world_size`` processes, evaluation, bytes of ``memory`` that the whole cell needs)."""

    record: Path
    name: str
    submission: Mapping[str, Any]

    @property
    def threads(self) -> int:
        return int(self.submission["threads"])

    @property
    def world_size(self) -> int:
        return int(self.submission["world_size"])

    @property
    def memory(self) -> int:
        """0 where nobody knows, or on GPUs, of which every process has one to itself."""
        return int(self.submission.get("memory", 0))


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
