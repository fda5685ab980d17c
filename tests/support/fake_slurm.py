"""A Slurm that is played, for tests of sweeps on a cluster where there is no cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.shared.load_experiment import load
from harness.environment.job import SchedulerJob
from harness.environment.process import ProcessIdentity
from harness.store.provenance import ComputeEnvironment, Provenance
from harness.store.record import Record
from harness.store.sweeps.job_arrays import JobStatus
from harness.sweep import cluster
from harness.sweep.cluster import SubmittedSweep
from harness.sweep.run.scheduler import JobState
from harness.sweep.slurm import scheduler
from harness.sweep.slurm.commands import Profile, Slurm, Unreachable
from tests.sweep.run.fake_scheduler import perform

PROFILE = "scheduler: slurm\ndevice: cpu\npartition: main\ntime: 10\n"
WORDS = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0,1,2]", "cluster=here.yaml"]
STATES = {JobState.DONE: "COMPLETED", JobState.FAILED: "FAILED", JobState.LOST: "NODE_FAIL"}


class FakeSlurm:
    """A Slurm whose jobs wait, or are over at once if ``acts`` says what the next attempts do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.acts: list[str] = []
        self.statuses: dict[str, JobStatus] = {}
        self.commands: list[tuple[str, ...]] = []
        self.silent = False
        monkeypatch.setattr(Slurm, "ask", lambda _, *command: self.ask(*command))
        monkeypatch.setattr(Profile, "submit", lambda _, name, comment, tasks, resources: self.submit(tasks))
        monkeypatch.setattr(Slurm, "queue", lambda _, users: (self.statuses, {}))
        for name in ("PAUSE_SECONDS", "LONGEST_PAUSE_SECONDS"):
            monkeypatch.setattr(scheduler, name, 0.0)
        monkeypatch.setattr(cluster, "POLL_SECONDS", 0.0)

    def ask(self, *command: str) -> str:
        self.commands.append(command)
        if self.silent:
            raise Unreachable(f"{command[0]} did not answer within 60 seconds")
        return "MaxArraySize = 1001" if command[0] == "scontrol" else ""

    def submit(self, tasks: Sequence[Sequence[Path]]) -> str:
        job = str(100 + len(self.statuses))
        for number, (path,) in enumerate(tasks):
            task = f"{job}_{number}" if len(tasks) > 1 else job
            self.statuses[task] = JobStatus("PENDING", "Priority")
            if self.acts:
                self.run(Record(path), task, self.acts.pop(0))
        return job

    def run(self, record: Record, task: str, act: str) -> None:
        """Let a job make an attempt at its cell that does this act."""
        submitted = record.submission()
        assert submitted
        environment = ComputeEnvironment(scheduler=SchedulerJob(job=task, task=task, restart=0))
        process = replace(ProcessIdentity.current(), pid_started="never")
        attempt = record.begin(Provenance(submitted, environment, process))
        self.statuses[task] = JobStatus(STATES[perform(act, attempt).state])


def sweep_of(tiny: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> SubmittedSweep:
    """A sweep of three cells."""
    (tiny.parent / "here.yaml").write_text(PROFILE)
    monkeypatch.chdir(tiny.parent)
    declared = load(str(tiny), [*WORDS, *words], tiny.parent / "results")
    declared.manifest.write(tiny.parent / "results")
    return SubmittedSweep(declared, tiny.parent / "results", declared.submission(), "harness sweep tiny.yaml")
