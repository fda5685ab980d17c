"""The scheduler job that this process belongs to."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: About when this job began, also where its process was replaced since.
STARTED = float(os.environ.get("HARNESS_JOB_STARTED", time.monotonic()))


@dataclass(frozen=True)
class SchedulerJob:
    """A start of a scheduler's job: its id, its task's id, and how often it was started before.

    The fields are the keys of the files that hold a job.
    """

    job: str
    task: str
    restart: int

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SchedulerJob | None:
        """Return the job that a file holds; None where it holds none."""
        return cls(content.get("job", ""), content.get("task", ""), content.get("restart", 0)) if content else None


def current_job() -> SchedulerJob | None:
    """Return the scheduler's job that this process belongs to; None outside of one."""
    job, array, number = (os.environ.get(f"SLURM_{name}", "") for name in ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID"))
    if not job:
        return None
    return SchedulerJob(job, f"{array}_{number}" if array and number else job, _count("SLURM_RESTART_COUNT"))


def rank_in_job() -> int:
    """The rank of this process among those of its job; 0 outside of one."""
    return _count("SLURM_PROCID")


def _count(name: str) -> int:
    """Return the number in a variable; 0 where it has none, as in a shell that has inherited a part of a job's."""
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else 0


def stop_cause(minutes: float, grace_seconds: float) -> str:
    """Return why a scheduler warns: because the time limit of so many minutes is near, or for a preemption."""
    left = 60 * minutes - (time.monotonic() - STARTED)
    return "time_limit" if left < 1.5 * grace_seconds + 30 else "preempted"
