"""What MLflow shows of an experiment and its cells: names, notes, parameters, points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.cell import get, paths
from harness.evaluation import Evaluation
from harness.files import Json, read_as
from harness.manifest import Expected, Manifest
from harness.store.record import Record
from harness.sweep.declare import evaluation_presets
from harness.trees import Scalar

#: The tag in which MLflow keeps the description of an experiment or a run.
NOTE = "mlflow.note.content"
#: The curves that MLflow's charts show first; all other curves go into a separate section.
CURVES = ("loss", "val_knn")


@dataclass(frozen=True)
class Point:
    """One value of a metric.

    ``step`` counts epochs, which have the same length in arms of any batch size. It is 0 for a value that is measured
    once; MLflow draws these values as bars.
    """

    metric: str
    value: float
    milliseconds: int
    step: int


def experiment_note(manifest: Manifest) -> str:
    """Return the experiment's question, what this scale cannot say, and how to read the page."""
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
    """Return the values of all varying axes except the seed."""
    values = [_formatted(expected.axes[path]) for path in manifest.varying if path != "seed"]
    return " ".join(values) or manifest.name


def run_name(manifest: Manifest, expected: Expected) -> str:
    """Return a short name of a cell's run: MLflow's tables show only about twenty characters."""
    seed = f" seed {expected.axes['seed']}" if "seed" in expected.axes else ""
    return arm_label(manifest, expected) + seed


def parameters(manifest: Manifest, record: Record) -> dict[str, str]:
    """Return the fields of a cell that are set, and its evaluation, as strings."""
    cell = record.cell()
    values = {path: str(value) for path in paths() if (value := get(cell, path)) is not None}
    settings = vars(manifest.evaluation).items()
    values |= {f"evaluate.{name}": str(value) for name, value in settings if value is not None}
    return {**values, "dataset.fingerprint": cell.dataset.fingerprint}


def points(manifest: Manifest, record: Record) -> Iterator[Point]:
    """Yield the learning curves with the times of their events, then the accuracies if the cell has finished.

    A clock that is set, or that of another machine, may give an event an earlier time than the one before, or than the
    beginning of the cell: such an event has the time of the one before.
    """
    attempts = record.attempts()
    last = int((attempts[0].provenance().started_at or 0) * 1000) if attempts else 0
    for event in record.events():
        last = max(last, int((event.time or 0) * 1000))
        for metric, value in event.metrics.items():
            name = metric if metric in CURVES else f"watch.{metric}"
            yield Point(name, value, last, event.step if event.epoch is None else event.epoch)
    if record.outcome():
        for metric, value in _accuracies(manifest, record).items():
            yield Point(metric, value, last, 0)


def _accuracies(manifest: Manifest, record: Record) -> dict[str, float]:
    """Return the accuracies of a record.

    Those of the manifest's evaluation have plain names. Those of an added evaluation begin with ``<preset>.``, or with
    ``<preset>.<data set>.`` if it was measured on another data set.
    """
    accuracies = dict(record.metrics(manifest.evaluation) or {})
    for path in sorted((record.path / "evaluations").glob("*.json")):
        if added := read_as(path, _Added.from_json):
            prefix = evaluation_presets.named(added.settings) or path.stem
            if added.dataset != record.cell().dataset.name:
                prefix += f".{added.dataset}"
            accuracies |= {f"{prefix}.{metric}": value for metric, value in added.metrics.items()}
    return accuracies


@dataclass(frozen=True)
class _Added:
    """An evaluation that was added to a record, on the data set of this name."""

    settings: Evaluation
    dataset: str
    metrics: dict[str, float]

    @classmethod
    def from_json(cls, content: Json) -> _Added:
        return cls(Evaluation.from_json(content["settings"]), content["dataset"]["name"], content["metrics"])


def _formatted(value: Scalar) -> str:
    return "–" if value is None else str(value)
