"""Accuracy by arm: mean, 95 % t interval, k of n seeds; as CSV, Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.catalog import METHODS, loss_label
from harness.manifest import Manifest
from harness.study.frame import setting_columns
from harness.study.statistics import Interval, mean_interval

TABLE_METRICS = {"test_knn": "kNN (%)", "test_linear": "linear probe (%)"}
HEADERS = {"batch_size": "batch size", "loss": "loss", "seeds": "seeds"}


def arms(manifest: Manifest, frame: pd.DataFrame) -> pd.DataFrame:
    """One row an arm (cells that differ only in seed), with numbers; ``k`` of ``n`` seeds have finished."""
    keys = [*setting_columns(manifest), "batch_size", "loss"]
    rows = []
    for values, cells in frame.groupby(keys, sort=False):
        row = dict(zip(keys, values if isinstance(values, tuple) else (values,), strict=True))
        row |= {"k": int(cells["test_knn"].notna().sum()), "n": len(cells)}
        for metric in (*TABLE_METRICS, "init_knn", "init_linear"):
            interval = mean_interval(cells[metric].dropna().tolist())
            row |= {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.sort_values(keys, key=lambda column: _declared_order(column, frame))


def _declared_order(column: pd.Series, frame: pd.DataFrame) -> pd.Series:
    """Names as they were declared, numbers by size."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    return column.map({name: position for position, name in enumerate(frame[column.name].drop_duplicates())})


def shown(name: str, value: object) -> str:
    """A value on the axis ``name`` as people know it."""
    if name == "loss":
        return loss_label(str(value))
    return METHODS[str(value)].label if name == "method" else str(value)


def for_people(manifest: Manifest, table: pd.DataFrame) -> pd.DataFrame:
    """The same as text: settings that do not vary are left out, means carry their interval's half width."""
    text = pd.DataFrame()
    for name in setting_columns(manifest):
        if table[name].nunique() > 1:
            text[name] = [shown(name, value) for value in table[name]]
    text[HEADERS["batch_size"]] = table["batch_size"].astype(str)
    text[HEADERS["loss"]] = [shown("loss", name) for name in table["loss"]]
    for metric, header in TABLE_METRICS.items():
        cells = zip(table[metric], table[f"{metric}_low"], table[f"{metric}_high"], table["k"], strict=True)
        text[header] = [with_interval(Interval(*numbers)) for numbers in cells]
    text[HEADERS["seeds"]] = [f"{k} of {n}" for k, n in zip(table["k"], table["n"], strict=True)]
    return text.reset_index(drop=True)


def with_interval(interval: Interval) -> str:
    """``81.23 ± 0.45``; a dash where nothing has finished, no interval for one seed."""
    if interval.n == 0:
        return "–"
    if interval.n == 1:
        return f"{interval.mean:.2f}"
    return f"{interval.mean:.2f} ± {(interval.high - interval.low) / 2:.2f}"


def write_tables(manifest: Manifest, frame: pd.DataFrame, results: Path) -> list[Path]:
    """``<name>.table.csv`` (numbers), ``.md`` and ``.tex`` (for people)."""
    table = arms(manifest, frame)
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
