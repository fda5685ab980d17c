"""The scheduler job that this process belongs to."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

#: About when this job began, also where its process was replaced since.
STARTED = float(os.environ.get("HARNESS_JOB_STARTED", time.monotonic()))


def current_job() -> dict[str, Any]:
    """The scheduler's job that this process belongs to, its task's id, and how often it was started before; empty
    outside of one."""
    job, array = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_ARRAY_JOB_ID", "")
    if not job:
        return {}
    task = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else job
    return {"job": job, "task": task, "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0"))}


def stop_cause(told: Mapping[str, Any]) -> str:
    """Why a scheduler sends its warning signal: the time limit (minutes), if that is near, or else a preemption."""
    if "time" not in told:
        return "signal"
    left = 60 * told["time"] - (time.monotonic() - STARTED)
    return "time_limit" if left < 1.5 * told["grace"] + 30 else "preempted"
