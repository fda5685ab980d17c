"""What MLflow's pages say of an experiment and its cells: names, notes, parameters, points."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.cell import get, paths
from harness.files import read_json
from harness.manifest import Expected, Manifest
from harness.store.record import Record
from harness.sweep.declare import evaluation_presets

NOTE = "mlflow.note.content"  # where MLflow keeps the description of an experiment, and of a run


#: The curves that MLflow's charts show first; all others stand in a section of their own.
CURVES = ("loss", "val_knn")


@dataclass(frozen=True)
class Point:
    """A value of a metric.

    ``step`` counts epochs, which have the same length in arms of any batch size; it is 0 for what is measured once, of
    which MLflow makes bars.
    """

    metric: str
    value: float
    milliseconds: int
    step: int


def experiment_note(manifest: Manifest) -> str:
    """The question, what this scale cannot say, and how to read the page."""
    lines = [
        f"**{manifest.title}** {manifest.question}",
        f"Trained on {manifest.dataset}, scale `{manifest.scale}`.",
        f"*What this scale cannot say:* {manifest.caveat}." if manifest.caveat else "",
        "*How to read it:* a run is a cell, an `arm` is all cells that differ only in their seed. In the chart view, "
        "group by `arm` to see means over seeds. Steps are epochs. `val_knn` is the learning curve on held-out images; "
        "`test_knn` and `test_linear` are measured once, after the last epoch, `init_knn` and `init_linear` before the "
        "first. Which differences are more than luck stands in the report: "
        f"`harness report {manifest.name}`.",
    ]
    return "\n\n".join(filter(None, lines))


def arm_label(manifest: Manifest, expected: Expected) -> str:
    """What varies but for the seed."""
    values = [_shown(expected.axes[path]) for path in manifest.varying if path != "seed"]
    return " ".join(values) or manifest.name


def run_name(manifest: Manifest, expected: Expected) -> str:
    """Short: MLflow's tables show some twenty characters of it."""
    seed = f" seed {expected.axes['seed']}" if "seed" in expected.axes else ""
    return arm_label(manifest, expected) + seed


def parameters(manifest: Manifest, record: Record) -> dict[str, str]:
    """The fields of the cell that it has, and its evaluation."""
    cell = record.cell()
    values = {path: str(value) for path in paths() if (value := get(cell, path)) is not None}
    settings = manifest.evaluation.items()
    values |= {f"evaluate.{name}": str(value) for name, value in settings if value is not None}
    return {**values, "dataset.fingerprint": cell.dataset.fingerprint}


def points(manifest: Manifest, record: Record) -> Iterator[Point]:
    """Learning curves, with the events' own timestamps, and the accuracies of a cell that has finished."""
    last = 0
    for event in record.events():
        last = int(event["time"] * 1000)
        for metric, value in event["metrics"].items():
            name = metric if metric in CURVES else f"watch.{metric}"
            yield Point(name, value, last, int(event["epoch"] if "epoch" in event else event["step"]))
    if record.outcome():
        for metric, value in _accuracies(manifest, record).items():
            yield Point(metric, value, last, 0)


def _accuracies(manifest: Manifest, record: Record) -> dict[str, float]:
    """Those of the manifest's evaluation; those of added ones under ``<preset>.``, or ``<preset>.<data set>.``."""
    found = dict(record.metrics(manifest.evaluation) or {})
    for path in sorted((record.path / "evaluations").glob("*.json")):
        added = read_json(path) or {}
        prefix = _preset(json.dumps(added["settings"])) or path.stem
        if added["dataset"]["name"] != record.cell().dataset.name:
            prefix += f".{added['dataset']['name']}"
        found |= {f"{prefix}.{metric}": value for metric, value in added["metrics"].items()}
    return found


@functools.cache
def _preset(settings: str) -> str | None:
    parsed: Mapping[str, Any] = json.loads(settings)
    return evaluation_presets.named(parsed)


def _shown(value: Any) -> str:
    return "–" if value is None else str(value)
