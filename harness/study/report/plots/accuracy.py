"""Accuracy along the experiment's main axis, a line a loss; where there is none, accuracy by arm."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.catalog.losses import loss_label
from harness.manifest import Manifest
from harness.study.axes import in_setting, main_axis, panel_axes, setting_columns, settings, varying
from harness.study.report.plots import style
from harness.study.text import METRIC_WORDS
from harness.study.text import setting as setting_words

ROW_INCHES = 0.22
#: What fits a page; the table has the others.
MOST_PANELS = 6
MOST_ROWS = 60


def accuracy(manifest: Manifest, table: pd.DataFrame, results: Path) -> list[Path]:
    """``<name>.svg`` and ``.png``: kNN accuracy on the test images with 95 % t intervals; ``table``: of ``arms``."""
    with style.styled():
        figure = drawn(manifest, table)
        paths = [results / f"{manifest.name}.{suffix}" for suffix in ("svg", "png")]
        paths[0].write_bytes(style.svg(figure))
        figure.set_layout_engine("none")  # it stays as it is
        figure.savefig(paths[1], dpi=160, metadata={"Software": None})
    return paths


def drawn(manifest: Manifest, table: pd.DataFrame) -> Figure:
    along = main_axis(manifest, table)
    return _along(manifest, table, along) if along else _by_arm(manifest, table)


def _by_arm(manifest: Manifest, table: pd.DataFrame) -> Figure:
    """A row an arm: the trained encoder's accuracy, and that of the same encoder before training."""
    names = [name for name in (*setting_columns(manifest), "loss") if table[name].nunique() > 1] or ["loss"]
    every, table = len(table), table.head(MOST_ROWS)
    labels = [setting_words(row) for row in table[names].to_dict("records")]
    figure = Figure(figsize=(1.4 * style.PANEL_INCHES[0], 1.2 + ROW_INCHES * len(table)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(table))
    spread = [table["test_knn"] - table["test_knn_low"], table["test_knn_high"] - table["test_knn"]]
    axes.errorbar(table["test_knn"], rows, xerr=spread, fmt="o", color="#000000", capsize=2, label="trained")
    axes.plot(table["init_knn"], rows, "|", color="#D55E00", markersize=9, markeredgewidth=2, label="initial encoder")
    axes.set_yticks(rows, labels)
    axes.invert_yaxis()
    axes.set_xlabel(METRIC_WORDS["test_knn"])
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    style.say_what_is_left_out(figure, len(table), every, "arms")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _along(manifest: Manifest, table: pd.DataFrame, along: str) -> Figure:
    """A panel a setting, intervals as bands."""
    every = settings(table, panel_axes(manifest, along))
    found = every[:MOST_PANELS]
    figure, panels = style.grid_of_panels(len(found))
    losses = style.order(manifest)
    for axes, setting in zip(panels, found, strict=True):
        _panel(axes, in_setting(table, setting), losses, along)
        axes.set_title(setting_words(varying(setting, table)))
    for axes in panels[:: style.PANELS_A_ROW]:
        axes.set_ylabel(METRIC_WORDS["test_knn"])
    style.say_what_is_left_out(figure, len(found), len(every), "settings")
    style.legend(figure, style.handles_of(panels))
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, losses: list[str], along: str) -> None:
    for name, of_loss in rows.groupby("loss", sort=False):
        style.line(axes, of_loss, along, loss_label(str(name)), losses.index(str(name)))
    initial = rows["init_knn"].mean()
    axes.axhline(initial, color="0.5", linewidth=1, linestyle=(0, (1, 3)), label="initial encoder")
    style.scale(axes, along, rows[along].tolist())
