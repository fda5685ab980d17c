"""Manifest + records -> one tidy table, a row a cell, missing cells included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cell import short_name
from harness.collapse import DIAGNOSTICS
from harness.evaluation import final
from harness.index import Index
from harness.manifest import Expected, Manifest
from harness.study.words import ABSENT

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


def axis_columns(manifest: Manifest) -> list[str]:
    """The axes by their short names; loss, batch size, epochs and seed are always among them."""
    declared = [short_name(path) for path in manifest.axes]
    return [*[name for name in ("loss", "batch_size", "epochs", "seed") if name not in declared], *declared]


def setting_columns(manifest: Manifest) -> list[str]:
    """The axes beside loss, batch size and seed: each combination of their values is judged by itself."""
    return [name for name in axis_columns(manifest) if name not in ("loss", "batch_size", "seed")]


def main_axis(manifest: Manifest, frame: pd.DataFrame) -> str:
    """The axis along which accuracy is drawn: the batch size, or else the first numeric one that varies and that no
    cell lacks; empty where there is none."""
    return next((name for name in ("batch_size", *setting_columns(manifest)) if is_numeric(frame[name])), "")


def is_numeric(column: pd.Series) -> bool:
    """Whether a column holds several numbers, and nothing else."""
    import pandas as pd

    kinds = pd.api.types
    return kinds.is_numeric_dtype(column) and not kinds.is_bool_dtype(column) and column.nunique() > 1


def panel_axes(manifest: Manifest, *drawn: str) -> list[str]:
    """The axes beside loss, seed and those that a figure is drawn over: it has a panel for each of their settings."""
    return [name for name in (*setting_columns(manifest), "batch_size") if name not in drawn]


def varying(setting: Mapping[str, Any], frame: pd.DataFrame) -> dict[str, Any]:
    """Of a setting, what tells it from the others of the table."""
    return {name: value for name, value in setting.items() if frame[name].nunique() > 1}


def fixed(manifest: Manifest) -> dict[str, Any]:
    """The values of a Cell's fields that are on no axis, by short name."""
    found: dict[str, Any] = {}
    for name, value in manifest.settings.items():
        inner = value if isinstance(value, Mapping) else {}
        found |= {short_name(f"{name}.{key}"): one for key, one in inner.items()} if inner else {name: value}
    return found


def settings(table: pd.DataFrame, axes: Sequence[str]) -> list[dict[str, Any]]:
    """Every combination of these axes' values that the table holds; one that differs from another only by lacking
    values belongs to it."""
    if not axes:
        return [{}]
    rows = table[[*axes]].drop_duplicates().to_dict("records")
    found = [{str(name): value for name, value in setting.items()} for setting in rows]

    def is_part(one: dict[str, Any]) -> bool:
        return ABSENT in one.values() and any(one is not other and _belongs(one, other) for other in found)

    return [one for one in found if not is_part(one)]


def _belongs(one: dict[str, Any], setting: dict[str, Any]) -> bool:
    return all(value in (setting[name], ABSENT) for name, value in one.items())


def in_setting(table: pd.DataFrame, setting: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of one setting; a loss that lacks a parameter is in the settings of all its values."""
    for name, value in setting.items():
        table = table[(table[name] == value) | (table[name] == ABSENT)]
    return table


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
