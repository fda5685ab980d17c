"""The figure of accuracy: a line for each loss along the main axis; without a main axis, a row for each arm."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.catalog.losses import loss_label
from harness.study.report.plots import style
from harness.study.table import ResultTable
from harness.study.text import METRIC_LABELS, setting_label

ROW_INCHES = 0.22
#: The most that fit a page; the table has the others.
MOST_PANELS = 6
MOST_ROWS = 60


def accuracy(table: ResultTable, results: Path) -> list[Path]:
    """Write ``<name>.svg`` and ``.png``: kNN accuracy on the test images with 95 % t intervals."""
    with style.styled():
        figure = drawn(table)
        paths = [results / f"{table.manifest.name}.{suffix}" for suffix in ("svg", "png")]
        paths[0].write_bytes(style.svg(figure))
        figure.set_layout_engine("none")  # the layout stays as it is
        figure.savefig(paths[1], dpi=160, metadata={"Software": None})
    return paths


def drawn(table: ResultTable) -> Figure:
    """Return the figure, for a document that embeds it."""
    return _along(table, table.main_axis) if table.main_axis else _by_arm(table)


def _by_arm(table: ResultTable) -> Figure:
    """Draw a row for each arm: the trained encoder's accuracy, and that of the same encoder before training."""
    every = table.arms.frame
    names = [name for name in (*table.setting_axes, "loss") if every[name].nunique() > 1] or ["loss"]
    arms = every.head(MOST_ROWS)
    labels = [setting_label(arm) for arm in arms[names].to_dict("records")]
    figure = Figure(figsize=(1.4 * style.PANEL_INCHES[0], 1.2 + ROW_INCHES * len(arms)), layout="constrained")
    axes = figure.subplots()
    heights = range(len(arms))
    spread = [arms["test_knn"] - arms["test_knn_low"], arms["test_knn_high"] - arms["test_knn"]]
    axes.errorbar(arms["test_knn"], heights, xerr=spread, fmt="o", color="#000000", capsize=2, label="trained")
    axes.plot(arms["init_knn"], heights, "|", color="#D55E00", markersize=9, markeredgewidth=2, label="initial encoder")
    axes.set_yticks(heights, labels)
    axes.invert_yaxis()
    axes.set_xlabel(METRIC_LABELS["test_knn"])
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    style.say_what_is_left_out(figure, len(arms), len(every), "arms")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _along(table: ResultTable, along: str) -> Figure:
    """Draw a panel for each setting, with intervals as bands."""
    every = table.arms.settings(along)
    shown = every[:MOST_PANELS]
    figure, panels = style.grid_of_panels(len(shown))
    losses = style.order(table.manifest)
    for axes, setting in zip(panels, shown, strict=True):
        _panel(axes, table.arms.in_setting(setting).frame, losses, along)
        axes.set_title(setting_label(table.varying(setting)))
    for axes in panels[:: style.PANELS_A_ROW]:
        axes.set_ylabel(METRIC_LABELS["test_knn"])
    style.say_what_is_left_out(figure, len(shown), len(every), "settings")
    style.legend(figure, style.handles_of(panels))
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, losses: list[str], along: str) -> None:
    for name, of_loss in rows.groupby("loss", sort=False):
        style.line(axes, of_loss, along, loss_label(str(name)), losses.index(str(name)))
    initial = rows["init_knn"].mean()
    axes.axhline(initial, color="0.5", linewidth=1, linestyle=(0, (1, 3)), label="initial encoder")
    style.scale(axes, along, rows[along].tolist())
