"""The table of accuracy by arm: mean, 95 % t interval, k of n seeds; as CSV, Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.study.statistics import Interval
from harness.study.table import ResultTable
from harness.study.text import axis_label, value_label

TABLE_METRICS = {"test_knn": "kNN (%)", "test_linear": "linear probe (%)"}


def for_people(table: ResultTable) -> pd.DataFrame:
    """Return the accuracy of every arm as text: settings that do not vary are left out, means carry half the width of
    their interval, and ``k of n`` seeds have finished."""
    arms = table.arms.frame
    text = pd.DataFrame(index=arms.index)
    for name in table.setting_axes:
        if arms[name].nunique() > 1:
            text[axis_label(name)] = [value_label(name, value) for value in arms[name]]
    text["batch size"] = arms["batch_size"].astype(str)
    text["loss"] = [value_label("loss", name) for name in arms["loss"]]
    for metric, header in TABLE_METRICS.items():
        cells = zip(arms[metric], arms[f"{metric}_low"], arms[f"{metric}_high"], arms["k"], strict=True)
        text[header] = [with_interval(Interval(*numbers)) for numbers in cells]
    text["seeds"] = [f"{k} of {n}" for k, n in zip(arms["k"], arms["n"], strict=True)]
    return text


def with_interval(interval: Interval) -> str:
    """Return ``81.23 ± 0.45``; a dash if nothing has finished, and no interval for one seed."""
    if interval.n == 0:
        return "–"
    if interval.n == 1:
        return f"{interval.mean:.2f}"
    return f"{interval.mean:.2f} ± {(interval.high - interval.low) / 2:.2f}"


def write_tables(table: ResultTable, results: Path) -> list[Path]:
    """Write the arms as ``<name>.table.csv`` (numbers), ``.md`` and ``.tex`` (for people)."""
    text = for_people(table)
    stem = results / f"{table.manifest.name}.table"
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("csv", "md", "tex")]
    table.arms.frame.to_csv(paths[0], index=False, float_format="%.4f")
    paths[1].write_text(_markdown(text), encoding="utf-8")
    paths[2].write_text(_latex(text), encoding="utf-8")
    return paths


def _markdown(text: pd.DataFrame) -> str:
    lines = [list(text.columns), ["---"] * len(text.columns), *text.to_numpy().tolist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _latex(text: pd.DataFrame) -> str:
    """Return a booktabs table, which needs ``\\usepackage{booktabs}``."""

    def row(cells: list[str]) -> str:
        line = " & ".join(cell.replace("%", r"\%").replace("±", r"$\pm$").replace("_", r"\_") for cell in cells)
        return line.replace("–", "--") + r" \\"

    lines = [rf"\begin{{tabular}}{{{'l' * len(text.columns)}}}", r"\toprule", row(list(text.columns)), r"\midrule"]
    lines += [row(cells) for cells in text.to_numpy().tolist()]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
