"""Cells of tests: started, waited for, stopped, and all that they compute."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file

from harness.ssl import train
from harness.ssl.attempt import run_cell
from harness.ssl.methods.batch import Batch
from harness.store.outcome import Outcome
from harness.store.record import Record

MakeRecord = Callable[..., Record]


def start(record: Record) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "harness.ssl", str(record.path)], env=environment)


def outcome(record: Record) -> Outcome:
    found = record.outcome()
    assert found is not None, (record.path / "attempts/1/stderr.log").read_text()
    return found


def numbers(record: Record) -> dict[str, object]:
    """Everything that a run computes: final metrics, curve, weights; times left out."""
    curve = [
        (event.step, {name: value for name, value in event.metrics.items() if name != "samples_per_second"})
        for event in record.events()
    ]
    attempt = record.attempts()[-1]
    weights = {name: value.tolist() for name, value in load_file(attempt.path / "encoder.safetensors").items()}
    return {"metrics": outcome(record).metrics, "curve": curve, "weights": weights}


def wait_for_epoch(record: Record, epoch: int) -> None:
    """Until the epoch's event is written: heartbeats are seconds apart, small cells are faster."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if any(event.epoch >= epoch for event in record.events()):
            return
        time.sleep(0.01)
    raise AssertionError("the cell never got that far")


def stop_and_resume(record: Record, last_step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute a cell in two attempts, of which the first is asked to stop while it is at this step."""
    update = train.Trainer.update

    def stop_at_the_last_step(self: train.Trainer, batch: Batch) -> None:
        self.heartbeat.stop = "signal" if self.step == last_step - 1 else ""
        update(self, batch)

    monkeypatch.setattr(train.Trainer, "update", stop_at_the_last_step)
    with pytest.raises(train.Interrupted, match=f"step {last_step} "):
        run_cell(record)
    monkeypatch.undo()
    torch.set_num_threads(1)
    run_cell(record)
