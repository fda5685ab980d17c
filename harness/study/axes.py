"""The axes of an experiment as columns of its result table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.cell import short_name
from harness.manifest import Manifest
from harness.study.text import ABSENT

if TYPE_CHECKING:
    import pandas as pd


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
