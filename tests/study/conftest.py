"""Synthetic records: a manifest and outcomes with chosen accuracies."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.cli.declared import load
from harness.manifest import Manifest
from harness.record import Record, write_json

Accuracy = Callable[[Mapping[str, Any]], float | None]
EVALUATION = {"knn_k": 20, "knn_temperature": 0.07, "penalty": 1e-4}


@pytest.fixture
def synthetic(tiny: Path) -> Callable[..., tuple[Manifest, Path]]:
    """``synthetic(accuracy, *overrides)``: accuracy of a cell's axes by short name; None leaves the cell missing."""

    folders = itertools.count()

    def make(accuracy: Accuracy, *overrides: str) -> tuple[Manifest, Path]:
        results = tiny.parent / f"results-{next(folders)}"
        declared = load(str(tiny), overrides, results)
        declared.manifest.write(results)
        for entry in declared.plan.entries:
            axes = {path.removesuffix(".name").rsplit(".", 1)[-1]: value for path, value in entry.axes.items()}
            value = accuracy(axes)
            if value is None:
                continue
            record = Record.prepare(results / "runs", entry.cell)
            attempt = record.begin({"hardware": "a processor", "threads": 1, "revision": "0" * 40, "dirty": False})
            metrics = {"test_knn": value, "test_linear": value + 1, "init_knn": 30.0, "init_linear": 31.0}
            attempt.log_event(0, {"val_knn": 30.0}, epoch=0)
            attempt.log_event(20, {"val_knn": value, "loss": 1.0}, epoch=1)
            attempt.end(
                {
                    "state": "finished",
                    "metrics": metrics,
                    "evaluation": EVALUATION,
                    "steps": 20,
                    "peak_lr": 0.1,
                    "dropped": 13,
                    "train_seconds": 50.0,
                    "seconds": 60.0,
                }
            )
            write_json(attempt.path / "provenance.json", {**attempt.provenance(), "pid": 1})
        return declared.manifest, results

    return make
