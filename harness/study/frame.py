"""Reads manifest and records into one result table, in which missing cells have a row, too."""

from __future__ import annotations

from pathlib import Path

from harness.cell import short_name
from harness.diagnostics import DIAGNOSTICS
from harness.manifest import Expected, Manifest
from harness.store.index import Index
from harness.study.table import CURVE, METRICS, ResultTable, axis_columns
from harness.study.text import ABSENT
from harness.trees import Scalar

#: What a cell needed.
COST = ("steps", "peak_lr", "dropped", "seconds", "joules")
#: Where, and with which code, a cell ran.
PROVENANCE = ("attempts", "hardware", "threads", "revision", "dirty")


#: A value in each column.
Row = dict[str, Scalar | list[list[float]]]


def tidy(manifest: Manifest, results: Path) -> ResultTable:
    """Return the table of all cells that a manifest declares.

    Its columns are cell_id, state, the axes, METRICS (per cent), collapse (why the cell counts as collapsed, or empty),
    DIAGNOSTICS of the last epoch, COST (optimiser steps, peak learning rate, images dropped per epoch, seconds of the
    whole cell, joules if the hardware counts energy), PROVENANCE and CURVE (the learning curve: epochs and kNN
    accuracies).

    A finished cell that was not evaluated as the manifest says counts as missing.
    """
    import pandas as pd

    index = Index(results / "runs")
    rows = [_row(cell, index, manifest) for cell in manifest.cells]
    index.remember()
    axes = axis_columns(manifest)
    columns = ["cell_id", "state", *axes, *METRICS, "collapse", *DIAGNOSTICS, *COST, *PROVENANCE, CURVE]
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys(columns)))  # steps may be an axis, too
    numbers = [name for name in (*METRICS, *DIAGNOSTICS, *COST) if name not in axes]
    frame[numbers] = frame[numbers].astype(float)  # a column with nothing but missing cells would have no type
    damaged = [sentence for cell in manifest.cells for sentence in index[cell.cell_id].damaged]
    return ResultTable(manifest, frame, damaged)


def _row(cell: Expected, index: Index, manifest: Manifest) -> Row:
    """Return the row of a cell; a cell without numbers has only its state and its place on the axes."""
    common, summary = manifest.common, index[cell.cell_id]
    axes: Row = {
        "loss": common.loss.name,
        "batch_size": common.batch_size,
        "epochs": common.epochs,
        "seed": common.seed,
    }
    axes |= {short_name(path): value for path, value in cell.axes.items()}
    axes = {name: ABSENT if value is None else value for name, value in axes.items()}
    row: Row = {
        "cell_id": cell.cell_id,
        "state": index.state_of(cell.cell_id, cell.versionless_id),
        "collapse": "",
        CURVE: [],
        **axes,
    }
    outcome, metrics = summary.outcome, index.metrics(cell.cell_id, manifest.evaluation, manifest.on)
    if outcome is None:
        return row
    if metrics is None:
        return {**row, "state": "missing"}
    then = outcome.evaluation
    same_evaluation = manifest.on is None and then is not None and then.final() == manifest.evaluation.final()
    last = summary.last.metrics if summary.last else {}
    joules = sum(outcome.joules.values()) or None  # a virtual machine's counters may stand still
    return {
        **row,
        **metrics,
        # The curve was measured while the cell was trained: a row has numbers of one evaluation only.
        "val_knn": summary.val_knn if same_evaluation else None,
        CURVE: summary.curve if same_evaluation else [],
        "collapse": summary.collapse,
        **{name: last.get(name) for name in DIAGNOSTICS},
        "steps": outcome.steps,
        "peak_lr": outcome.peak_lr,
        "dropped": outcome.dropped,
        "seconds": outcome.seconds,
        "joules": joules,
        "attempts": outcome.attempt,
        **{name: getattr(summary.conditions, name) for name in ("hardware", "threads", "revision", "dirty")},
        **axes,  # an axis of the same name, such as steps, was declared
    }


def write_csv(table: ResultTable, path: Path) -> None:
    """Write every column but the learning curves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.frame.drop(columns=CURVE).to_csv(path, index=False, float_format="%.4f")
