"""Manifest + records -> one tidy table, a row a cell, missing cells included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cell import short_name
from harness.diagnostics import DIAGNOSTICS
from harness.evaluation import final
from harness.manifest import Expected, Manifest
from harness.store.index import Index
from harness.study.axes import axis_columns
from harness.study.text import ABSENT

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("test_knn", "test_linear", "init_knn", "init_linear", "val_knn")
#: What stays out of the CSV file.
CURVE = "curve"
COST = ("steps", "peak_lr", "dropped", "seconds", "joules")
PROVENANCE = ("attempts", "hardware", "threads", "revision", "dirty")


def tidy(manifest: Manifest, results: Path) -> pd.DataFrame:
    """Columns: cell_id, state, one per axis, METRICS (per cent), collapse (why, or empty), DIAGNOSTICS of the last
    epoch, COST (optimiser steps, peak learning rate, images dropped per epoch, seconds of the whole cell, joules where
    counters of energy were read), PROVENANCE, CURVE (the learning curve: epochs and kNN accuracies).

    A finished cell without the manifest's evaluation counts as missing.
    """
    import pandas as pd

    index = Index(results / "runs")
    rows = [_row(cell, index, manifest) for cell in manifest.cells]
    index.remember()
    columns = [
        "cell_id",
        "state",
        *axis_columns(manifest),
        *METRICS,
        "collapse",
        *DIAGNOSTICS,
        *COST,
        *PROVENANCE,
        CURVE,
    ]
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys(columns)))  # steps may be an axis, too
    numbers = [name for name in (*METRICS, *DIAGNOSTICS, *COST) if name not in axis_columns(manifest)]
    frame[numbers] = frame[numbers].astype(float)  # a column of missing cells alone would have no type
    return frame


def _row(cell: Expected, index: Index, manifest: Manifest) -> dict[str, Any]:
    fixed, found = manifest.settings, index[cell.cell_id]
    values = {"loss": fixed["loss"]["name"], **{name: fixed[name] for name in ("batch_size", "epochs", "seed")}}
    values |= {short_name(path): value for path, value in cell.axes.items()}
    axes = {name: ABSENT if value is None else value for name, value in values.items()}
    row: dict[str, Any] = {
        "cell_id": cell.cell_id,
        "state": index.state_of(cell.cell_id, cell.kin),
        "collapse": "",
        CURVE: [],
        **axes,
    }
    outcome, metrics = found.outcome, index.metrics(cell.cell_id, manifest.evaluation, manifest.on)
    if outcome is None:
        return row
    if metrics is None:
        return {**row, "state": "missing"}
    judged_then = manifest.on is None and final(outcome.get("evaluation", {})) == final(manifest.evaluation)
    last = found.last["metrics"] if found.last else {}
    joules = sum(outcome.get("joules", {}).values()) or None  # a virtual machine's counters may stand still
    return {
        **row,
        **metrics,
        # The curve was measured while the cell was trained: numbers of two evaluations do not stand in one row.
        "val_knn": found.val_knn if judged_then else None,
        CURVE: found.curve if judged_then else [],
        "collapse": found.collapse,
        **{name: last.get(name) for name in DIAGNOSTICS},
        **{name: {**outcome, "joules": joules}[name] for name in COST},
        "attempts": outcome["attempt"],
        **{name: found.ran.get(name) for name in ("hardware", "threads", "revision", "dirty")},
        **axes,  # an axis of the same name, such as steps, was declared
    }


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.drop(columns=CURVE).to_csv(path, index=False, float_format="%.4f")
