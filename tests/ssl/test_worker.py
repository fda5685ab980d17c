"""A worker: one cell after another, with the numbers that each has in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.catalog.losses import LOSSES
from harness.cell import Dataset, Loss, Optimizer
from harness.plugins import register
from harness.store.record import Record
from harness.store.signs_of_life import STALE_SECONDS
from harness.store.submission import Submission
from harness.store.sweeps.ledger import Ledger, Policy

pytestmark = pytest.mark.e2e

MakeRecord = Callable[..., Record]


class Worker:
    """A real one, with pipes."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "harness.ssl.worker"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, record: Record) -> None:
        assert self.process.stdin
        submission = record.submission()
        assert submission
        request = {"record": str(record.path), "submission": submission.to_json()}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, object]:
        assert self.process.stdout
        found: dict[str, object] = json.loads(self.process.stdout.readline())
        return found

    def compute(self, record: Record) -> dict[str, object]:
        self.ask(record)
        return self.answer()

    def end(self) -> int:
        self.process.communicate(timeout=60)
        return self.process.returncode


def result(record: Record) -> object:
    outcome, weights = record.outcome(), record.encoder()
    assert outcome is not None
    assert weights is not None
    return outcome.metrics, weights.read_bytes()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def test_cells_of_one_worker_are_those_of_processes_of_their_own(make_record: MakeRecord) -> None:
    cells = [{"seed": 0}, {"loss": Loss("dcl"), "batch_size": 32}, {"precision": "bf16"}]
    worker = Worker()
    for fields in cells:
        assert worker.compute(make_record("together", **fields))["code"] == 0
    assert worker.end() == 0
    for fields in cells[1:]:
        alone = make_record("alone", **fields)
        subprocess.run([sys.executable, "-m", "harness.ssl", str(alone.path)], check=True)
        assert result(alone) == result(make_record("together", **fields))


OWN = """
import atexit, os, threading, time
import torch
from sims import logits_of

torch.set_default_dtype(torch.float64)
torch.Tensor.square = None
os.system("uname -s")
print("a line on standard output")
os.environ["OMP_NUM_THREADS"] = "7"
atexit.register(time.sleep, 600)
threading.Thread(target=time.sleep, args=(600,)).start()


def dropped(z1, z2, *, temperature=0.2):
    logits = logits_of(z1, z2, temperature)
    drop = (torch.rand_like(logits) < 0.5) & ~torch.eye(len(z1), dtype=torch.bool)
    logits = logits.masked_fill(drop, -1e4)
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(z1)))
"""


def test_a_worker_serves_no_cell_after_one_of_a_users_own_loss(make_record: MakeRecord, tmp_path: Path) -> None:
    """The own cell's numbers are those of a process of its own, whatever the worker computed before."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "sims.py").write_text("def logits_of(z1, z2, temperature): return z1 @ z2.T / temperature\n")
    register([tmp_path / "own.py"])
    loss = Loss("dropped", 0.2, source=LOSSES["dropped"].source)

    def own_record(folder: str) -> Record:
        record = make_record(folder, loss=loss, epochs=1)
        submission = record.submission()
        assert submission
        record.submit(replace(submission, run=replace(submission.run, plugins=(str(tmp_path / "own.py"),))))
        return record

    worker = Worker()
    assert worker.compute(make_record("together", epochs=1)) | {"record": ""} == {
        "record": "", "code": 0, "said": "", "ends": False
    }  # fmt: skip
    together, alone = own_record("together"), own_record("alone")
    answer = worker.compute(together)
    assert (answer["code"], answer["said"], answer["ends"]) == (0, "", True)
    assert worker.end() == 0, "at once: neither its threads nor its exit handlers hold it"
    subprocess.run([sys.executable, "-m", "harness.ssl", str(alone.path)], check=True, timeout=120)
    assert result(alone) == result(together)


def test_a_failure_ends_it_and_stands_in_the_record_and_the_ledger(make_record: MakeRecord, tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path, "x.demo", Policy())
    record = make_record(optimizer=Optimizer(lr=1e30))
    record.submit(replace(record.submission() or Submission(), sweep=ledger.path.name))
    worker = Worker()
    answer = worker.compute(record)
    assert answer["code"] == 1
    assert worker.end() == 0
    outcome = record.attempts()[-1].outcome()
    assert outcome
    assert (outcome.state, outcome.cause) == ("failed", "diverged")
    (failure,) = ledger.failures()
    assert (failure.cell_id, failure.cause) == (record.cell_id, "diverged")


def test_a_cell_whose_sweep_was_stopped_or_that_was_withdrawn_does_not_begin(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    ledger = Ledger.open(tmp_path, "x.demo", Policy())
    ledger.stop("enough")
    stopped, withdrawn = make_record(seed=0), make_record(seed=1)
    stopped.submit(replace(stopped.submission() or Submission(), sweep=ledger.path.name))
    withdrawn.withdraw()
    worker = Worker()
    assert "enough" in str(worker.compute(stopped)["said"])
    assert "cancelled" in str(worker.compute(withdrawn)["said"])
    worker.end()
    assert stopped.attempts() == withdrawn.attempts() == []


def test_a_request_in_its_folder_stops_a_cell_wherever_it_runs(make_record: MakeRecord) -> None:
    record = make_record(epochs=500)
    worker = Worker()
    worker.ask(record)
    wait_until(lambda: len(record.events()) > 1)
    record.attempts()[0].request_stop("cancelled")
    assert worker.answer()["code"] == 75
    outcome = record.attempts()[0].outcome()
    assert outcome
    assert (outcome.state, outcome.cause) == ("interrupted", "cancelled")
    assert (record.attempts()[0].path / "checkpoint.pt").exists()
    assert worker.compute(make_record(seed=3, epochs=1))["code"] == 0, "the worker itself lives on"
    worker.end()


@pytest.mark.tried("frozen processes", "a worker, until its cell was finished by another one")
def test_a_frozen_holder_that_wakes_up_does_no_harm(make_record: MakeRecord) -> None:
    """It is stopped for real (SIGSTOP), superseded, and goes on (SIGCONT) after the cell has finished."""
    record = make_record(epochs=30)
    frozen, other = Worker(), Worker()
    frozen.ask(record)
    wait_until(lambda: len(record.events()) > 2)
    frozen.process.send_signal(signal.SIGSTOP)
    old = time.time() - 2 * STALE_SECONDS
    os.utime(record.attempts()[0].path / "heartbeat", (old, old))
    assert other.compute(record)["code"] == 0
    before = {
        path: path.read_bytes() for path in record.path.rglob("*") if path.is_file() and "attempts/1" not in str(path)
    }
    frozen.process.send_signal(signal.SIGCONT)
    assert frozen.answer()["code"] == 75
    assert {path: path.read_bytes() for path in before} == before
    first, published = record.attempts()[0].outcome(), record.outcome()
    assert first
    assert published
    assert (first.state, published.attempt) == ("interrupted", 2)
    for worker in (frozen, other):
        worker.end()


def test_a_missing_data_set_is_one_sentence(make_record: MakeRecord) -> None:
    worker = Worker()
    answer = worker.compute(make_record(dataset=Dataset("digits", 8, 0.1, "0123")))
    assert answer["code"] == 1
    assert "fingerprint" in str(answer["said"])
    worker.end()
