"""Cells through the real engine with a training function that computes nothing: what the engine itself costs.

    python tests/benchmarks/engine.py --cells 10000

Supervisor, ledger, the local scheduler, two workers and records are real. Prints the wall time a cell, and the memory
of the supervisor and its workers early and late.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from harness.cell import Cell, Dataset
from harness.datasets import find
from harness.evaluation import Evaluation
from harness.store.record import Record
from harness.store.submission import RunConfig, Submission
from harness.store.sweeps.ledger import Ledger, Policy
from harness.sweep.run.local_scheduler import LocalScheduler
from harness.sweep.run.slots import Slots
from harness.sweep.run.supervisor import Task, TaskState, supervise

WORKER = (sys.executable, str(Path(__file__).with_name("fake_training.py")))
EVALUATION = {"knn_k": 20, "knn_temperature": 0.07, "penalty": 1e-4, "every": 1, "curve_bank": 500}


class Watch:
    """Notes when cells end, and the memory of this process and the workers (MiB) as they do."""

    def __init__(self, scheduler: LocalScheduler, every: int) -> None:
        self.scheduler, self.every = scheduler, every
        self.ends: list[float] = []
        self.memory: list[tuple[int, float, float]] = []

    def __call__(self, ended: Sequence[TaskState], running: Sequence[TaskState]) -> None:
        for _ in ended:
            self.ends.append(time.monotonic())
            if len(self.ends) % self.every == 0:
                workers = [_resident(process.popen.pid) for process in self.scheduler._processes]
                self.memory.append((len(self.ends), _resident("self"), sum(workers)))


def _resident(pid: int | str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=10_000)
    asked = parser.parse_args()
    fingerprint = find("digits", None).fingerprint
    submission = Submission(RunConfig(evaluation=Evaluation(**EVALUATION)), experiment="x", scale="demo")
    with tempfile.TemporaryDirectory() as place:
        results = Path(place)
        cells = [Cell(dataset=Dataset(fingerprint=fingerprint), seed=seed) for seed in range(asked.cells)]
        tasks = [Task(Record(results / "runs" / c.cell_id), c, f"seed={c.seed}", submission) for c in cells]
        scheduler = LocalScheduler(Slots(2, 1, "cpu"), worker=WORKER)
        watch = Watch(scheduler, max(1, asked.cells // 10))
        begun = time.monotonic()
        with closing(scheduler):
            watched = supervise(tasks, scheduler, Ledger.open(results, "x.demo", Policy()), watch)
        assert all(item.finished for item in watched)
        half = len(watch.ends) // 2
        found = {
            "cells": asked.cells,
            "seconds until the first ends": round(watch.ends[0] - begun, 2),
            "milliseconds a cell, first half": round(1000 * (watch.ends[half] - watch.ends[0]) / half, 1),
            "milliseconds a cell, second half": round(1000 * (watch.ends[-1] - watch.ends[half]) / half, 1),
            "MiB of supervisor and workers": {
                f"after {count} cells": f"{own:.0f}, {workers:.0f}" for count, own, workers in watch.memory[::3]
            },
        }
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
