"""A scheduler's job is known by its variables, of which a shell may have inherited a part."""

from __future__ import annotations

import os

import pytest

from harness.environment.job import SchedulerJob, current_job, rank_in_job


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({}, None),
        ({"SLURM_ARRAY_JOB_ID": "7"}, None),
        ({"SLURM_JOB_ID": "8"}, SchedulerJob("8", "8", 0)),
        ({"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}, SchedulerJob("8", "7_3", 0)),
        ({"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7"}, SchedulerJob("8", "8", 0)),
        ({"SLURM_JOB_ID": "8", "SLURM_RESTART_COUNT": "2"}, SchedulerJob("8", "8", 2)),
        ({"SLURM_JOB_ID": "8", "SLURM_RESTART_COUNT": "", "SLURM_PROCID": ""}, SchedulerJob("8", "8", 0)),
    ],
)
def test_a_job_is_read_from_whatever_variables_there_are(
    variables: dict[str, str], job: SchedulerJob | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert current_job() == job
    assert rank_in_job() == 0
