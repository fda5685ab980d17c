"""A finished cell evaluated again, by the worker that ``harness evaluate`` starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from harness.cell import Dataset
from harness.datasets import find
from harness.evaluation import Evaluation
from harness.ssl.attempt import run_cell
from harness.ssl.data import sources
from harness.ssl.data.split import Data
from harness.ssl.evaluate.reevaluate import evaluate_again
from harness.store.outcome import Outcome
from harness.store.record import Record

MakeRecord = Callable[..., Record]
SAME = Evaluation(knn_k=20, knn_temperature=0.07, penalty=1e-4)
PLAIN = Evaluation(knn_k=10, knn_temperature=None, linear="adam", penalty=None, linear_epochs=2)


def evaluate(
    records: list[Record], evaluation: Evaluation, dataset: Dataset | None = None, root: str | None = None
) -> list[dict[str, Any]]:
    """What the worker says of each record."""
    cells = [
        {"record": str(record.path), "dataset": asdict(dataset or record.cell().dataset), "root": root}
        for record in records
    ]
    request = {"threads": 1, "device": "cpu", "evaluation": asdict(evaluation), "cells": cells}
    done = subprocess.run(
        [sys.executable, "-m", "harness.ssl.evaluate"],
        input=json.dumps(request), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def record(make_record: MakeRecord) -> Record:
    record = make_record()
    run_cell(record)
    return record


@pytest.mark.e2e
def test_the_kept_encoder_has_the_numbers_that_it_had_when_the_cell_finished(record: Record) -> None:
    (said,) = evaluate([record], SAME)
    outcome = record.outcome()
    assert outcome is not None
    assert said["metrics"] == outcome.metrics


@pytest.mark.e2e
def test_a_cell_that_was_trained_under_a_preset_has_the_numbers_that_are_added_later(make_record: MakeRecord) -> None:
    then, later = make_record("then"), make_record("later")
    submission = then.submission()
    assert submission
    then.submit(replace(submission, run=replace(submission.run, evaluation=PLAIN)))
    for record in (then, later):
        run_cell(record)
    evaluate([later], PLAIN)
    assert later.metrics(PLAIN) == then.metrics(PLAIN) is not None


@pytest.mark.e2e
def test_an_added_evaluation_says_what_was_measured_and_with_what(record: Record) -> None:
    evaluate([record], PLAIN)
    dataset = record.cell().dataset
    added = record.added_evaluation(PLAIN.key(dataset))
    assert added is not None
    assert added["settings"] == {"knn_k": 10, "knn_temperature": None, "linear": "adam", "linear_epochs": 2}
    assert added["dataset"] == asdict(dataset)
    assert set(added["metrics"]) == {"test_knn", "test_linear", "init_knn", "init_linear"}
    assert {"revision", "versions", "hardware", "threads"} <= set(added["provenance"])
    assert added["seconds"] > 0


def test_another_data_set_passes_through_the_encoder_as_its_training_images_did(
    record: Record,
) -> None:
    """The same images under another name have the same numbers, whatever their own mean is said to be."""
    dataset = record.cell().dataset
    data = sources.load(dataset, None)
    shifted = Data(data.train, data.bank, data.validation, data.test, data.mean + 0.2, data.std * 2)
    other = Dataset("fashion_mnist", 28, 0.1, "other images")
    metrics, _ = evaluate_again(record, SAME, other, shifted, torch.device("cpu"), {})
    assert metrics == record.metrics(SAME) == record.metrics(SAME, other)


@pytest.mark.e2e
def test_a_cell_that_cannot_be_evaluated_does_not_stop_the_others(make_record: MakeRecord, record: Record) -> None:
    lost, strange = make_record(seed=1), make_record(seed=2)
    for other in (lost, strange):
        other.begin().end(Outcome("finished", metrics={}))
    (strange.path / "attempts/1/encoder.safetensors").write_bytes(b"no weights")
    said = evaluate([lost, strange, record], PLAIN)
    assert "the record has no encoder" in said[0]["error"]
    assert said[1]["error"].startswith("SafetensorError")
    assert said[2]["metrics"] == record.metrics(PLAIN)


@pytest.mark.e2e
def test_images_of_other_channels_are_refused(record: Record, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "photos" / split / "a").mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "photos" / split / "a" / f"{number}.png")
    root = str(tmp_path / "photos")
    dataset = Dataset("imagefolder", 8, 0.1, find("imagefolder", root).fingerprint)
    (said,) = evaluate([record], SAME, dataset, root)
    assert said["error"] == "the encoder takes images of 1 channels, imagefolder has 3"
