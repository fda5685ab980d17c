"""Accuracy by arm: mean, 95 % t interval, k of n seeds; as CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.manifest import Manifest
from harness.study.axes import setting_columns
from harness.study.statistics import Interval, mean_interval
from harness.study.text import axis, shown

TABLE_METRICS = {"test_knn": "kNN (%)", "test_linear": "linear probe (%)"}


def arms(manifest: Manifest, frame: pd.DataFrame) -> pd.DataFrame:
    """One row an arm (cells that differ only in seed), with numbers; ``k`` of ``n`` seeds have finished."""
    keys = [*setting_columns(manifest), "batch_size", "loss"]
    table = over_seeds(frame, keys, (*TABLE_METRICS, "init_knn", "init_linear"))
    return table.sort_values(keys, key=lambda column: _declared_order(column, frame))


def over_seeds(frame: pd.DataFrame, keys: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Of the cells that agree in ``keys``: mean, ``_low`` and ``_high`` of every metric; ``k`` of ``n`` have the first
    of these."""
    rows = []
    for values, cells in frame.groupby(keys, sort=False):
        row: dict[str, Any] = dict(zip(keys, values, strict=True))
        row |= {"k": int(cells[metrics[0]].notna().sum()), "n": len(cells)}
        for metric in metrics:
            interval = mean_interval(cells[metric].dropna().tolist())
            row |= {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
        rows.append(row)
    return pd.DataFrame(rows)


def _declared_order(column: pd.Series, frame: pd.DataFrame) -> pd.Series:
    """Names as they were declared, numbers by size."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    return column.map({name: position for position, name in enumerate(frame[column.name].drop_duplicates())})


def for_people(manifest: Manifest, table: pd.DataFrame) -> pd.DataFrame:
    """The same as text: settings that do not vary are left out, means carry their interval's half width."""
    table = table.reset_index(drop=True)  # columns are put together row by row, not by the frame's labels
    text = pd.DataFrame(index=table.index)
    for name in setting_columns(manifest):
        if table[name].nunique() > 1:
            text[axis(name)] = [shown(name, value) for value in table[name]]
    text["batch size"] = table["batch_size"].astype(str)
    text["loss"] = [shown("loss", name) for name in table["loss"]]
    for metric, header in TABLE_METRICS.items():
        cells = zip(table[metric], table[f"{metric}_low"], table[f"{metric}_high"], table["k"], strict=True)
        text[header] = [with_interval(Interval(*numbers)) for numbers in cells]
    text["seeds"] = [f"{k} of {n}" for k, n in zip(table["k"], table["n"], strict=True)]
    return text


def with_interval(interval: Interval) -> str:
    """``81.23 ± 0.45``; a dash where nothing has finished, no interval for one seed."""
    if interval.n == 0:
        return "–"
    if interval.n == 1:
        return f"{interval.mean:.2f}"
    return f"{interval.mean:.2f} ± {(interval.high - interval.low) / 2:.2f}"


def write_tables(manifest: Manifest, table: pd.DataFrame, results: Path) -> list[Path]:
    """``<name>.table.csv`` (numbers), ``.md`` and ``.tex`` (for people) of ``arms``."""
    text = for_people(manifest, table)
    stem = results / f"{manifest.name}.table"
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("csv", "md", "tex")]
    table.to_csv(paths[0], index=False, float_format="%.4f")
    paths[1].write_text(_markdown(text), encoding="utf-8")
    paths[2].write_text(_latex(text), encoding="utf-8")
    return paths


def _markdown(text: pd.DataFrame) -> str:
    lines = [list(text.columns), ["---"] * len(text.columns), *text.to_numpy().tolist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _latex(text: pd.DataFrame) -> str:
    """A booktabs table; needs ``\\usepackage{booktabs}``."""

    def row(cells: list[str]) -> str:
        line = " & ".join(cell.replace("%", r"\%").replace("±", r"$\pm$").replace("_", r"\_") for cell in cells)
        return line.replace("–", "--") + r" \\"

    lines = [rf"\begin{{tabular}}{{{'l' * len(text.columns)}}}", r"\toprule", row(list(text.columns)), r"\midrule"]
    lines += [row(cells) for cells in text.to_numpy().tolist()]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
