"""The protocol of an executor.

A job is one prepared record and what it needs; its identity on the way is the id that ``submit`` returns. A scheduler
keeps jobs running when the submitting process is gone; the local executor's queue lives in that process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

JobState = Literal["queued", "running", "ended"]


@dataclass(frozen=True)
class Job:
    """``name``: experiment and cell, for people; ``threads`` of each of the cell's ``world_size`` processes."""

    record: Path
    name: str
    threads: int
    device: str
    world_size: int = 1


class Executor(Protocol):
    """Four verbs; what became of a cell is read from its record, not from here."""

    def script(self, job: Job) -> str:
        """The very shell script that ``submit`` would run; free of effects, so that a dry run is exact."""
        ...

    def submit(self, job: Job) -> str:
        """Queue the job and return its id."""
        ...

    def poll(self, ids: Collection[str]) -> Mapping[str, JobState]:
        """The states of all these jobs in one query."""
        ...

    def cancel(self, ids: Collection[str]) -> None:
        """Ask the jobs to stop at their next checkpoint; those still queued never start."""
        ...
