"""Accuracy over two axes as a map with a panel for each loss: a tuned setting against the main axis."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from harness.catalog.losses import loss_label
from harness.study.axes import is_numeric
from harness.study.report.plots import style
from harness.study.table import ResultTable
from harness.study.text import axis_label, setting_label

#: The settings that are tuned, those whose map says most first.
TUNED = ("temperature", "lr", "weight_decay", "momentum")
MOST_PANELS = 6
#: The widest map whose squares have room for a number.
MOST_COLUMNS = 8


def heatmap(table: ResultTable) -> bytes | None:
    """Draw kNN accuracy on the test images, means over seeds, in the setting that has most cells; None if no tuned
    setting varies."""
    across, frame = table.main_axis, table.frame
    down = next((name for name in TUNED if name != across and name in frame and is_numeric(frame[name])), "")
    if not across or not down:
        return None
    setting = max(table.settings(across, down), key=lambda setting: len(table.in_setting(setting).frame))
    title = setting_label(table.varying(setting))
    frame = table.in_setting(setting).frame
    losses = list(frame["loss"].drop_duplicates())[:MOST_PANELS]
    rows, columns = (sorted(frame[name].unique()) for name in (down, across))
    of_loss = {name: frame[frame["loss"] == name] for name in losses}
    maps = {name: _means(cells, down, across).reindex(rows, columns=columns) for name, cells in of_loss.items()}
    values = np.concatenate([means.to_numpy().flatten() for means in maps.values()])
    if np.isnan(values).all():
        return None
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    with style.styled():
        figure, panels = style.grid_of_panels(len(losses), (3.8, 1.0 + 0.34 * len(rows)), one_scale=False)
        for axes, (name, means) in zip(panels, maps.items(), strict=True):
            axes.imshow(means, cmap="cividis", vmin=low, vmax=high, aspect="auto")
            _label(axes, means, of_loss[name].groupby([down, across]).size().unstack(), (low + high) / 2)
            axes.set_xlabel(axis_label(across))
            axes.set_ylabel(axis_label(down))
            axes.set_title(loss_label(name), fontsize=9)
        figure.colorbar(panels[0].images[0], ax=panels, label="kNN, test images (%)", shrink=0.9)
        figure.suptitle(title, fontsize=9)
        style.say_what_is_left_out(figure, len(losses), frame["loss"].nunique(), "losses")
        return style.svg(figure)


def _means(rows: pd.DataFrame, down: str, across: str) -> pd.DataFrame:
    """Return means over seeds; NaN if a cell of the square has not finished, since a part says nothing of the whole."""
    squares = rows.groupby([down, across])["test_knn"]
    whole = squares.agg(lambda values: values.mean() if values.notna().all() else np.nan)
    return whole.unstack(across).sort_index()


def _label(axes: Axes, table: pd.DataFrame, declared: pd.DataFrame, middle: float) -> None:
    """Write a number into every square; a dash if a cell has not finished, nothing if none was declared."""
    axes.set_xticks(range(table.shape[1]), [f"{value:g}" for value in table.columns])
    axes.set_yticks(range(table.shape[0]), [f"{value:g}" for value in table.index])
    if table.shape[1] > MOST_COLUMNS:
        return
    is_declared = declared.reindex(table.index, columns=table.columns).notna().to_numpy()
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        if is_declared[row, column]:
            colour = "black" if np.isnan(value) or value > middle else "white"
            text = "–" if np.isnan(value) else f"{value:.1f}"
            # Text inside its square changes no layout; to measure it hundreds of times takes seconds.
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour, in_layout=False)
