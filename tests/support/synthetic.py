"""Accuracies of synthetic records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.cli.shared.load_experiment import load
from harness.files import read_json, write_json
from harness.manifest import Manifest
from harness.store.provenance import Provenance
from harness.store.record import Record
from tests.support.results import ENVIRONMENT, OUTCOME

Synthetic = Callable[..., tuple[Manifest, Path]]
Axes = Mapping[str, Any]


def robust(axes: Axes, advantage: float = 4.0) -> float:
    """InfoNCE loses ``advantage`` points at batch 64, DCL none; seeds shift both alike, and a little apart."""
    noise = {0: 0.0, 1: 1.0, 2: -1.0}.get(axes["seed"], 0.5)
    apart = 0.1 * axes["seed"] if axes["loss"] != "infonce" and axes["batch_size"] == 64 else 0.0
    return 80.0 + noise + apart - (advantage if axes["loss"] == "infonce" and axes["batch_size"] == 64 else 0.0)


def short(axes: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's values by short name."""
    return {path.removesuffix(".name").rsplit(".", 1)[-1]: value for path, value in axes.items()}


def logged(manifest: Manifest, results: Path, **metrics: Callable[[Axes], float | None]) -> None:
    """Diagnostics after the last epoch of every cell, as functions of its axes by short name; None logs none."""
    for cell in manifest.cells:
        axes = short(cell.axes)
        found = {name: value for name, of in metrics.items() if (value := of(axes)) is not None}
        for attempt in Record(results / "runs" / cell.cell_id).attempts()[-1:]:  # none of a missing cell
            attempt.log_event(20, found, epoch=1)


def make_records(
    file: Path, results: Path, accuracy: Callable[[Axes], float | None], overrides: Sequence[str]
) -> tuple[Manifest, Path]:
    """The manifest of an experiment file, and records of these accuracies; None leaves a cell missing."""
    declared = load(str(file), overrides, results)
    declared.manifest.write(results)
    for entry in declared.plan.entries:
        value = accuracy(short(entry.axes))
        if value is None:
            continue
        record = Record.prepare(results / "runs", entry.cell)
        attempt = record.begin(Provenance(environment=ENVIRONMENT))
        metrics = {"test_knn": value, "test_linear": value + 1, "init_knn": 30.0, "init_linear": 31.0}
        attempt.log_event(0, {"val_knn": 30.0}, epoch=0)
        attempt.log_event(20, {"val_knn": value, "loss": 1.0}, epoch=1)
        attempt.end(replace(OUTCOME, metrics=metrics))
        write_json(attempt.path / "provenance.json", {**(read_json(attempt.provenance_file) or {}), "pid": 1})
    return declared.manifest, results
