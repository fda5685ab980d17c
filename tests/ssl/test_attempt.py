"""One attempt: what ends it, and how that is written down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from harness.cell import Dataset
from harness.ssl import train
from harness.ssl.attempt import CodeDrift, run_cell
from harness.ssl.distributed import World
from harness.ssl.methods.batch import Batch
from harness.store.record import Record
from harness.store.submission import RunConfig, Submission
from tests.support.training import numbers, start, wait_for_epoch

MakeRecord = Callable[..., Record]


@pytest.mark.e2e
def test_kill_9_loses_at_most_the_work_since_the_last_checkpoint(make_record: MakeRecord) -> None:
    calm, killed = make_record("calm", epochs=20), make_record("killed", epochs=20)
    run_cell(calm)
    process = start(killed)
    wait_for_epoch(killed, 3)
    process.kill()
    process.wait()
    assert killed.state() == "missing"
    run_cell(killed)
    assert numbers(killed) == numbers(calm)
    second = [json.loads(line) for line in (killed.path / "attempts/2/events.jsonl").read_text().splitlines()]
    assert second[0]["epoch"] > 2, "it began again from nothing"


def test_a_rank_that_stops_before_its_own_signal_comes_says_that_a_signal_was_the_cause(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks stop together, at the step at which the first of them has had its signal."""
    record, stopped = make_record(), iter([(False, False), (False, True)])
    monkeypatch.setattr(World, "any_of", lambda self, *values: next(stopped, (False, True)))
    with pytest.raises(train.Interrupted):
        run_cell(record)
    ended = record.attempts()[0].outcome()
    assert ended
    assert (ended.state, ended.cause) == ("interrupted", "signal")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_stops_at_a_checkpoint(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    record = make_record()
    update = train.Trainer.update

    def signal_in_step_3(self: train.Trainer, batch: Batch) -> None:
        if self.step == 2:
            os.kill(os.getpid(), number)
        update(self, batch)

    monkeypatch.setattr(train.Trainer, "update", signal_in_step_3)
    with pytest.raises(train.Interrupted, match="step 3 "):
        run_cell(record)
    ended = record.attempts()[0].outcome()
    assert ended is not None
    assert ended.state == "interrupted"
    assert (record.path / "attempts/1/checkpoint.pt").exists()


@pytest.mark.parametrize("ask", [lambda: torch.empty(2**50), lambda: bytearray(2**60)])
def test_what_asks_for_more_memory_than_there_is_is_not_tried_again(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], object]
) -> None:
    record = make_record()
    monkeypatch.setattr(train.Trainer, "update", lambda self, batch: ask())
    with pytest.raises((MemoryError, RuntimeError)):
        run_cell(record)
    ended = record.attempts()[0].outcome()
    assert ended
    assert (ended.state, ended.cause) == ("failed", "out_of_memory")


def test_other_code_than_the_cell_was_submitted_with_computes_nothing(make_record: MakeRecord) -> None:
    record = make_record()
    record.submit(Submission(RunConfig(source_hash="0" * 12)))
    with pytest.raises(CodeDrift, match="the code has changed since the cell was submitted"):
        run_cell(record)
    ended = record.attempts()[0].outcome()
    assert ended
    assert (ended.state, ended.cause) == ("failed", "code_drift")
    assert record.events() == []


@pytest.mark.e2e
def test_a_record_without_its_data_says_so(make_record: MakeRecord) -> None:
    record = make_record(dataset=Dataset("digits", 8, 0.1, "0123"))
    process = subprocess.run(
        [sys.executable, "-m", "harness.ssl", str(record.path)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 1
    assert "fingerprint" in process.stderr
    assert "Traceback" not in process.stderr
