"""A sweep on the development cluster, as a person runs it: the command line, in a folder that every node sees."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.files import read_json, write_json
from harness.store.record import Attempt, Record
from harness.store.sweeps.job_arrays import JobArrays

#: What changes the numbers of a cell, and what does not (seconds, rates).
NUMBERS = ("metrics", "steps", "peak_lr", "dropped")

EXPERIMENT = """
defaults: [schema, dataset: digits, backbone: convnet, method: simclr, optimizer: sgd, evaluate: solo_learn,
           cluster: local, _self_]
title: A study on a cluster
question: Is DCL more robust?
scale: demo
backbone: {width: 4}
evaluate: {every: 10}
axes:
  loss: [infonce, dcl]
  batch_size: [64, 128]
  temperature: [0.1]
  epochs: [2]
  seed: [0, 1, 2, 3, 4, 5]
scales:
  demo: {}
"""
PROFILE = """
scheduler: slurm
device: cpu
partition: main
time: 10
cpus: 1
memory: 1.2
grace: 10
"""
#: A cell that computes for some fifteen seconds: time enough to interrupt it.
LONG = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0]", "axes.epochs=[120]"]
LONG_TWICE = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0,1]", "axes.epochs=[120]"]


class Folder:
    """``path``: with an experiment and a profile; ``results`` lies in it.

    ``cache`` holds what the folders of a run share: images, measured costs, and an empty MLflow store, whose creation
    takes longer than most jobs.
    """

    def __init__(self, path: Path, cache: Path) -> None:
        self.path, self.results = path, path / "results"
        path.mkdir(parents=True, exist_ok=True)
        (path / "study.yaml").write_text(EXPERIMENT)
        (path / "here.yaml").write_text(PROFILE)
        self.store = cache / "mlflow.db"
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}

    def harness(self, *words: str, before: Sequence[str] = (), **environment: str) -> subprocess.CompletedProcess[str]:
        if words[0] == "sweep" and "--dry-run" not in words:
            self.begin()
        return subprocess.run(
            [*before, sys.executable, "-m", "harness.cli.main", *words],
            cwd=self.path,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**self.environment, **environment},
            timeout=240,
        )

    def begin(self) -> None:
        """Results with a store in them, unless there are some."""
        if not self.results.exists() and self.store.exists():
            self.results.mkdir()
            shutil.copy(self.store, self.results / "mlflow.db")

    def sweep(self, *words: str) -> str:
        """Submit, and return what was said."""
        done = self.harness("sweep", "study.yaml", "cluster=here.yaml", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def waiting(self, *words: str) -> subprocess.Popen[str]:
        """A sweep that stays."""
        self.begin()
        command = [
            sys.executable,
            "-m",
            "harness.cli.main",
            "sweep",
            "study.yaml",
            "cluster=here.yaml",
            "--wait",
            *words,
        ]
        return subprocess.Popen(
            command, cwd=self.path, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def records(self) -> list[Record]:
        return [Record(path) for path in sorted((self.results / "runs").iterdir())]

    @property
    def record(self) -> Record:
        (only,) = self.records()
        return only

    def status(self) -> list[dict[str, Any]]:
        done = self.harness("status", "--json")
        assert done.returncode == 0, done.stderr
        return [cell for experiment in json.loads(done.stdout) for cell in experiment["cells"]]

    def jobs(self) -> list[str]:
        found = [JobArrays(path.parent) for path in sorted((self.results / "sweeps").glob("*/batches"))]
        return [batch.job for batches in found for batch in batches.all if batch.job]

    def calls(self, command: str) -> int:
        """How often Slurm was asked."""
        logs = (self.results / "sweeps").glob("*/slurm.log")
        return sum(line.split()[2].startswith(command) for path in logs for line in path.read_text().splitlines())

    def finished(self) -> bool:
        return bool(self.records()) and all(record.outcome() for record in self.records())


def until(condition: Callable[[], object], seconds: float = 120) -> Any:
    """What the condition gives, once it is something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it never came true; squeue:\n{slurm('squeue', '-t', 'all')}"
        time.sleep(0.3)
    return found


def slurm(*command: str) -> str:
    """What a command prints; nothing where it hangs, as scancel does on a node that is dying."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    except subprocess.TimeoutExpired:
        return ""


def events(record: Record) -> Iterator[dict[str, Any]]:
    for attempt in record.attempts():
        yield from attempt.events()


def begun(folder: Folder, epochs: int = 10) -> Attempt:
    """The running attempt, once it has trained so far."""

    def far() -> Attempt | None:
        records = folder.records() if (folder.results / "runs").exists() else []
        attempts = records[0].attempts() if records else []
        last = [event.epoch or 0 for event in attempts[-1].events()] if attempts else []
        return attempts[-1] if last and last[-1] >= epochs else None

    found: Attempt = until(far)
    return found


def numbers(record: Record) -> dict[str, Any]:
    """All that a cell computes: its outcome, its curve, its weights."""
    outcome = record.outcome()
    assert outcome
    curve = [(event.step, {**event.metrics, "samples_per_second": 0}) for event in record.events()]
    encoder = record.encoder()
    return {
        **{name: getattr(outcome, name) for name in NUMBERS},
        "curve": curve,
        "encoder": encoder.read_bytes() if encoder else None,
    }


def computed_here(path: Path, cache: Path, *words: str) -> list[dict[str, object]]:
    """With one thread a cell, as on the cluster: with another number sums have other last digits."""
    made = Folder(path, cache)
    done = made.harness("sweep", "study.yaml", *words, before=["taskset", "-c", "0"] if LONG[2] in words else [])
    assert done.returncode == 0, done.stdout + done.stderr
    return [numbers(record) for record in made.records()]


def forget_when_asked(folder: Folder) -> None:
    """As if the last question lay longer ago."""
    for path in (folder.results / "sweeps").glob("*/queue.json"):
        write_json(path, {**(read_json(path) or {}), "pause": 0.0})


def causes(record: Record) -> list[str]:
    return [end.reason if (end := attempt.outcome()) else "?" for attempt in record.attempts()]


def node_of(job: str) -> str:
    return slurm("squeue", "-h", "-j", job, "-o", "%N").strip()
