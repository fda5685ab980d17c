"""What all figures have in common: colours, scales, legends, files."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypedDict

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from harness.cell import short_name
from harness.manifest import Manifest
from harness.study.report.plots.fonts import with_fallback
from harness.study.text import axis_label

# The colours of Okabe and Ito differ for the colour-blind; lightness, dashes and markers differ in grey.
COLOURS = ("#000000", "#D55E00", "#56B4E9", "#009E73", "#CC79A7")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PANEL_INCHES = (4.6, 3.4)
PANELS_A_ROW = 2
RC = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "svg.hashsalt": "harness",
    "svg.fonttype": "path",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextmanager
def styled() -> Iterator[None]:
    """Let figures that are drawn inside the block have the style of a report, whatever the user has set up."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG; the same figure gives the same bytes."""
    file = io.BytesIO()
    with_fallback(figure).savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def grid_of_panels(
    count: int, panel: tuple[float, float] = PANEL_INCHES, one_scale: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure and ``count`` panels; ``one_scale``: whether all panels share their vertical scale."""
    columns = min(count, PANELS_A_ROW)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(panel[0] * columns, panel[1] * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharey=one_scale, squeeze=False).flatten())
    for unused in panels[count:]:
        unused.set_visible(False)
    return figure, panels[:count]


def order(manifest: Manifest) -> list[str]:
    """Return the losses in the order in which they are declared, so that a loss looks the same in all figures."""
    fixed = {"loss": manifest.common.loss.name}
    declared = ({short_name(path): value for path, value in cell.axes.items()} for cell in manifest.cells)
    return list(dict.fromkeys(str((fixed | values)["loss"]) for values in declared))


class Look(TypedDict):
    """The look of a line, as matplotlib's keywords."""

    color: str
    linestyle: Any
    marker: str


def of(position: int) -> Look:
    """Return the look of the line at this position: no two of the first 35 have the same colour and marker."""
    colour = position % len(COLOURS)
    return {"color": COLOURS[colour], "linestyle": DASHES[colour], "marker": MARKERS[position % len(MARKERS)]}


def scale(axes: Axes, name: str, values: Sequence[float]) -> None:
    """Label the horizontal axis, with a tick at every value that was trained; the scale is logarithmic if the values
    span more than a factor of four."""
    values = sorted(set(values))
    positive = [value for value in values if value > 0]
    if positive and max(values) > 4 * positive[0]:
        if min(values) > 0:
            axes.set_xscale("log", base=2)
        else:
            axes.set_xscale("symlog", linthresh=positive[0])
    shown = values if len(values) <= 9 else values[:: math.ceil(len(values) / 8)]
    axes.set_xticks(shown, [f"{value:g}" for value in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"{axis_label(name)}{' (samples)' if name == 'batch_size' else ''}")
    axes.grid(axis="y", color="0.9", linewidth=0.6)


def line(axes: Axes, rows: pd.DataFrame, name: str, label: str, position: int, metric: str = "test_knn") -> None:
    """Draw an arm along an axis: its intervals as a band, its incomplete points with "k of n"."""
    look = of(position)
    axes.plot(rows[name], rows[metric], label=label, linewidth=1.6, **look)
    low, high = rows[f"{metric}_low"], rows[f"{metric}_high"]
    if len(rows) == 1:  # a band of one point cannot be seen
        axes.vlines(rows[name], low, high, color=look["color"], alpha=0.5)
    axes.fill_between(rows[name].astype(float), low, high, color=look["color"], alpha=0.15, linewidth=0)
    known = rows[metric].dropna()
    if known.empty:
        axes.set_ylim(0, 100)
    for _, arm in rows.iterrows():
        height = arm[metric] if arm["k"] else (known.min() if len(known) else 50.0)
        mark_incomplete(axes, (arm[name], height), arm["k"], arm["n"])


def mark_incomplete(axes: Axes, place: tuple[float, float], finished: float, declared: float) -> None:
    """Write ``2 of 3`` next to a point that not all declared seeds have reached."""
    if finished < declared:
        text = f"{finished:.0f} of {declared:.0f}"
        axes.annotate(text, place, xytext=(4, 4), textcoords="offset points", fontsize=7)


def legend(figure: Figure, handles: Mapping[str, Artist]) -> None:
    """Draw the legend below the panels, in as many columns as the figure is wide enough for."""
    for columns in range(min(5, len(handles)), 0, -1):
        below = {"loc": "outside lower center", "ncols": columns, "frameon": False}
        drawn = figure.legend(handles.values(), handles.keys(), **below)
        if columns == 1 or drawn.get_window_extent().width <= figure.bbox.width:
            return
        drawn.remove()


def handles_of(panels: Sequence[Axes]) -> dict[str, Artist]:
    """Return every label once; the initial encoder last."""
    by_label = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if "initial encoder" in by_label:
        by_label["initial encoder"] = by_label.pop("initial encoder")
    return by_label


def say_what_is_left_out(figure: Figure, drawn: int, every: int, what: str, where: str = "the table") -> None:
    """Write above the panels how many are drawn, if they are not all."""
    if drawn < every:
        figure.suptitle(f"the first {drawn} of {every:,} {what}; {where} has the others", fontsize=8)
