"""Manifest + records -> one tidy table, a row a cell, missing cells included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from harness.cell import short_name
from harness.collapse import DIAGNOSTICS, collapse
from harness.evaluation import final
from harness.manifest import Manifest
from harness.record import Record

#: An axis's value in the rows of a loss or method that lacks it.
ABSENT = "–"
METRICS = ("test_knn", "test_linear", "init_knn", "init_linear", "val_knn")
COST = ("steps", "peak_lr", "dropped", "seconds")
PROVENANCE = ("attempts", "hardware", "threads", "revision", "dirty")


def tidy(manifest: Manifest, results: Path) -> pd.DataFrame:
    """Columns: cell_id, state, one per axis, METRICS (per cent), collapse (why, or empty), DIAGNOSTICS of the last
    epoch, COST (optimiser steps, peak learning rate, images dropped per epoch, seconds of the whole cell), PROVENANCE.

    A finished cell without the manifest's evaluation counts as missing.
    """
    rows = [_row(Record(results / "runs" / cell.cell_id), cell.axes, manifest) for cell in manifest.cells]
    columns = ["cell_id", "state", *axis_columns(manifest), *METRICS, "collapse", *DIAGNOSTICS, *COST, *PROVENANCE]
    frame = pd.DataFrame(rows, columns=columns)
    numbers = [*METRICS, *DIAGNOSTICS, *COST]
    frame[numbers] = frame[numbers].astype(float)  # a column of missing cells alone would have no type
    return frame


def axis_columns(manifest: Manifest) -> list[str]:
    """The axes by their short names; loss, batch size, epochs and seed are always among them."""
    declared = [short_name(path) for path in manifest.axes]
    return [*[name for name in ("loss", "batch_size", "epochs", "seed") if name not in declared], *declared]


def setting_columns(manifest: Manifest) -> list[str]:
    """The axes beside loss, batch size and seed: each combination of their values is judged by itself."""
    return [name for name in axis_columns(manifest) if name not in ("loss", "batch_size", "seed")]


def settings(manifest: Manifest, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Every combination of the setting columns' values that the table holds; one that differs from another only by
    lacking values belongs to it."""
    rows = table[setting_columns(manifest)].drop_duplicates().to_dict("records")
    found = [{str(name): value for name, value in setting.items()} for setting in rows]
    return [one for one in found if not any(one is not other and _belongs(one, other) for other in found)]


def _belongs(one: dict[str, Any], setting: dict[str, Any]) -> bool:
    return all(value in (setting[name], ABSENT) for name, value in one.items())


def in_setting(table: pd.DataFrame, setting: dict[str, Any]) -> pd.DataFrame:
    """The rows of one setting; a loss that lacks a parameter is in the settings of all its values."""
    for name, value in setting.items():
        table = table[(table[name] == value) | (table[name] == ABSENT)]
    return table


def _row(record: Record, axes: Any, manifest: Manifest) -> dict[str, Any]:
    fixed = manifest.settings
    row: dict[str, Any] = {
        "cell_id": record.cell_id,
        "state": record.state(),
        "collapse": "",
        "loss": fixed["loss"]["name"],
        "batch_size": fixed["batch_size"],
        "epochs": fixed["epochs"],
        "seed": fixed["seed"],
        **{short_name(path): ABSENT if value is None else value for path, value in axes.items()},
    }
    outcome, metrics = record.outcome(), record.metrics(manifest.evaluation, manifest.on)
    if outcome is None:
        return row
    if metrics is None:
        return {**row, "state": "missing"}
    judged_then = manifest.on is None and final(outcome.get("evaluation", {})) == final(manifest.evaluation)
    events = [event["metrics"] for event in record.events()]
    curve = [metrics["val_knn"] for metrics in events if "val_knn" in metrics]
    last = events[-1] if events else {}
    provenance = record.attempts()[outcome["attempt"] - 1].provenance()
    return {
        **row,
        **metrics,
        # The curve was measured while the cell was trained: numbers of two evaluations do not stand in one row.
        "val_knn": curve[-1] if curve and judged_then else None,
        "collapse": collapse(last, events[0] if events else None),
        **{name: last.get(name) for name in DIAGNOSTICS},
        **{name: outcome[name] for name in COST},
        "attempts": outcome["attempt"],
        **{name: provenance.get(name) for name in ("hardware", "threads", "revision", "dirty")},
    }


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.4f")
