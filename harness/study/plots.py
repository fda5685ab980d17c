"""Accuracy against batch size, a line a loss; where there is one batch size, accuracy by arm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from harness.catalog import loss_label
from harness.manifest import Manifest
from harness.study.frame import ABSENT, in_setting, setting_columns, settings
from harness.study.tables import arms, shown

# Okabe and Ito's colours differ for the colour-blind; lightness, dashes and markers differ in grey.
COLOURS = ("#000000", "#D55E00", "#56B4E9", "#009E73", "#CC79A7")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PANEL_INCHES = (4.6, 3.4)
PANELS_A_ROW = 2
ROW_INCHES = 0.22
#: What fits a page; the table has the others.
MOST_PANELS = 8
MOST_ROWS = 60


def accuracy(manifest: Manifest, frame: pd.DataFrame, results: Path) -> list[Path]:
    """``<name>.svg`` and ``.png``: kNN accuracy on the test images with 95 % t intervals."""
    table = arms(manifest, frame)
    style = {"font.size": 9, "svg.hashsalt": "harness", "svg.fonttype": "path", "axes.spines.top": False}
    with matplotlib.rc_context({**style, "axes.spines.right": False, "font.family": "DejaVu Sans"}):
        draw = _against_batch_size if table["batch_size"].nunique() > 1 else _by_arm
        figure = draw(manifest, table)
        paths = [results / f"{manifest.name}.{suffix}" for suffix in ("svg", "png")]
        figure.savefig(paths[0], metadata={"Date": None})
        figure.set_layout_engine("none")  # it stays as it is
        figure.savefig(paths[1], dpi=160, metadata={"Software": None})
    return paths


def _by_arm(manifest: Manifest, table: pd.DataFrame) -> Figure:
    """A row an arm: the trained encoder's accuracy, and that of the same encoder before training."""
    names = [name for name in (*setting_columns(manifest), "loss") if table[name].nunique() > 1] or ["loss"]
    every, table = len(table), table.head(MOST_ROWS)
    labels = [_named(row) for row in table[names].to_dict("records")]
    figure = Figure(figsize=(1.4 * PANEL_INCHES[0], 1.2 + ROW_INCHES * len(table)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(table))
    spread = [table["test_knn"] - table["test_knn_low"], table["test_knn_high"] - table["test_knn"]]
    axes.errorbar(table["test_knn"], rows, xerr=spread, fmt="o", color="#000000", capsize=2, label="trained")
    axes.plot(table["init_knn"], rows, "|", color="#D55E00", markersize=9, markeredgewidth=2, label="initial encoder")
    axes.set_yticks(rows, labels)
    axes.invert_yaxis()
    axes.set_xlabel("kNN accuracy, test images (%)")
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    _say_what_is_left_out(figure, len(table), every, "arms")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _against_batch_size(manifest: Manifest, table: pd.DataFrame) -> Figure:
    """A panel a setting, intervals as bands."""
    every = settings(manifest, table)
    found = every[:MOST_PANELS]
    width, height = PANEL_INCHES
    columns = min(len(found), PANELS_A_ROW)
    lines = math.ceil(len(found) / columns)
    figure = Figure(figsize=(width * columns, height * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten()
    for unused in panels[len(found) :]:
        unused.set_visible(False)
    losses = list(table["loss"].drop_duplicates())
    for axes, setting in zip(panels, found, strict=False):
        _panel(axes, in_setting(table, setting), losses)
        axes.set_title(_named(setting))
    for axes in panels[::columns]:
        axes.set_ylabel("kNN accuracy, test images (%)")
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    handles["initial encoder"] = handles.pop("initial encoder")  # last
    _say_what_is_left_out(figure, len(found), len(every), "settings")
    _legend(figure, handles)
    return figure


def _say_what_is_left_out(figure: Figure, shown: int, every: int, what: str) -> None:
    if shown < every:
        figure.suptitle(f"the first {shown} of {every:,} {what}; the table has the others", fontsize=8)


def _named(values: Mapping[Any, Any]) -> str:
    """``temperature 0.2, MoCo v2, DCL``, without what the loss or method lacks."""
    words = []
    for name, value in values.items():
        if name in ("loss", "method"):
            words.append(shown(name, value))
        elif value != ABSENT:
            words.append(f"{name.replace('_', ' ')} {f'{value:g}' if isinstance(value, float) else value}")
    return ", ".join(words)


def _legend(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Below the panels, in as many columns as the figure is wide enough for."""
    for columns in range(min(5, len(handles)), 0, -1):
        below = {"loc": "outside lower center", "ncols": columns, "frameon": False}
        legend = figure.legend(handles.values(), handles.keys(), **below)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _panel(axes: Axes, rows: pd.DataFrame, losses: list[str]) -> None:
    sizes = sorted(rows["batch_size"].unique())
    for name, line in rows.groupby("loss", sort=False):
        style = _style(losses.index(str(name)))
        axes.plot(line["batch_size"], line["test_knn"], label=loss_label(str(name)), linewidth=1.6, **style)
        low, high = line["test_knn_low"], line["test_knn_high"]
        axes.fill_between(line["batch_size"], low, high, color=style["color"], alpha=0.15, linewidth=0)
        for _, arm in line[line["k"] < line["n"]].iterrows():
            place = (arm["batch_size"], arm["test_knn"] if arm["k"] else rows["test_knn"].min())
            axes.annotate(f"{arm['k']} of {arm['n']}", place, xytext=(4, 4), textcoords="offset points", fontsize=7)
    initial = rows["init_knn"].mean()
    axes.axhline(initial, color="0.5", linewidth=1, linestyle=(0, (1, 3)), label="initial encoder")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("batch size (samples)")
    axes.grid(axis="y", color="0.9", linewidth=0.6)


def _style(position: int) -> dict[str, Any]:
    """Of the loss at this position: no two of the first 35 have the same colour and marker."""
    colour = position % len(COLOURS)
    return {"color": COLOURS[colour], "linestyle": DASHES[colour], "marker": MARKERS[position % len(MARKERS)]}
