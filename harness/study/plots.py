"""Accuracy against batch size, a line a loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from harness.catalog import loss_label
from harness.manifest import Manifest
from harness.study.frame import in_setting, settings
from harness.study.tables import arms

# Okabe and Ito's colours differ for the colour-blind; lightness, dashes and markers differ in grey.
STYLES: list[dict[str, Any]] = [
    {"color": "#000000", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#56B4E9", "linestyle": "-.", "marker": "^"},
    {"color": "#009E73", "linestyle": ":", "marker": "D"},
    {"color": "#CC79A7", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
]
PANEL_INCHES = (4.6, 3.4)
PANELS_A_ROW = 2


def accuracy_against_batch_size(manifest: Manifest, frame: pd.DataFrame, results: Path) -> list[Path]:
    """``<name>.svg`` and ``.png``: kNN accuracy on the test images, 95 % t intervals as bands, a panel a setting."""
    table = arms(manifest, frame)
    found = settings(manifest, table)
    style = {"font.size": 9, "svg.hashsalt": "harness", "svg.fonttype": "path", "axes.spines.top": False}
    with matplotlib.rc_context({**style, "axes.spines.right": False, "font.family": "DejaVu Sans"}):
        width, height = PANEL_INCHES
        columns = min(len(found), PANELS_A_ROW)
        lines = math.ceil(len(found) / columns)
        figure = Figure(figsize=(width * columns, height * lines), layout="constrained")
        panels = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten()
        for unused in panels[len(found) :]:
            unused.set_visible(False)
        for axes, setting in zip(panels, found, strict=False):
            _panel(axes, in_setting(table, setting))
            axes.set_title(", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                                     for name, value in setting.items()))  # fmt: skip
        for axes in panels[::columns]:
            axes.set_ylabel("kNN accuracy, test images (%)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        paths = [results / f"{manifest.name}.{suffix}" for suffix in ("svg", "png")]
        figure.savefig(paths[0], metadata={"Date": None})
        figure.savefig(paths[1], dpi=160, metadata={"Software": None})
    return paths


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    sizes = sorted(rows["batch_size"].unique())
    for position, (name, line) in enumerate(rows.groupby("loss", sort=False)):
        style = STYLES[position % len(STYLES)]
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
