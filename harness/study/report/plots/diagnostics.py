"""What explains accuracy: q and the effective number of negatives along the main axis, and the learning curves."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.catalog.losses import loss_label
from harness.study.report.plots import style
from harness.study.table import CURVE, ResultTable
from harness.study.text import setting_label

MOST_PANELS = 4


def gradients(table: ResultTable) -> bytes | None:
    """Draw q and the effective number of negatives after the last epoch, means over seeds, in the first setting that
    has them; None if no cell has them, or if there is no axis."""
    along, measured = table.main_axis, table.frame["q_mean"].notna()
    if not along or not measured.any():
        return None
    setting = table.of(table.frame[measured]).settings(along)[0]
    names = ["q_mean", "q_05", "q_95", "negatives_ess"]
    cells = table.in_setting(setting).frame.groupby(["loss", along], sort=False)
    rows = cells[names].mean().assign(k=cells["q_mean"].count(), n=cells.size()).reset_index()
    losses = style.order(table.manifest)
    with style.styled():
        figure = Figure(figsize=(7.6, 3.0), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, of_loss in rows[rows["q_mean"].notna()].sort_values(along).groupby("loss", sort=False):
            look, label = style.of(losses.index(str(name))), loss_label(str(name))
            left.plot(of_loss[along], of_loss["q_mean"], label=label, **look)
            left.fill_between(
                of_loss[along], of_loss["q_05"], of_loss["q_95"], color=look["color"], alpha=0.12, linewidth=0
            )
            right.plot(of_loss[along], of_loss["negatives_ess"], label=label, **look)
            for _, arm in of_loss.iterrows():
                style.mark_incomplete(left, (arm[along], arm["q_mean"]), arm["k"], arm["n"])
        for axes, word in ((left, "q (mean; 5 to 95 % of anchors)"), (right, "effective number of negatives")):
            style.scale(axes, along, rows[along].tolist())
            axes.set_ylabel(word)
            axes.set_ylim(bottom=0)
        figure.suptitle(setting_label(table.varying(setting)), fontsize=9)
        style.legend(figure, style.handles_of([left, right]))
        return style.svg(figure)


def curves(table: ResultTable) -> bytes | None:
    """Draw kNN accuracy on the validation images against epochs, with a panel for each setting; None without curves."""
    known = table.of(table.frame[table.frame[CURVE].map(len) > 1])
    if known.frame.empty:
        return None
    every = known.settings()
    shown = every[:MOST_PANELS]
    losses = style.order(table.manifest)
    with style.styled():
        figure, panels = style.grid_of_panels(len(shown), (3.8, 2.7))
        for axes, setting in zip(panels, shown, strict=True):
            _curves(axes, known.in_setting(setting).frame, table.in_setting(setting).frame, losses)
            axes.set_title(setting_label(table.varying(setting)), fontsize=9)
        for axes in panels[:: style.PANELS_A_ROW]:
            axes.set_ylabel("kNN, validation images (%)")
        style.say_what_is_left_out(figure, len(shown), len(every), "settings")
        style.legend(figure, style.handles_of(panels))
        return style.svg(figure)


def _curves(axes: Axes, rows: pd.DataFrame, declared: pd.DataFrame, losses: list[str]) -> None:
    """Draw a thin line for each seed, and a thick one for their mean at the epochs that all seeds have."""
    for name, of_loss in rows.groupby("loss", sort=False):
        look: style.Look = {**style.of(losses.index(str(name))), "marker": ""}
        points = [pd.Series(dict(map(tuple, curve))) for curve in of_loss[CURVE]]
        broken = pd.concat([part for curve in points for part in (curve, pd.Series({float("nan"): float("nan")}))])
        axes.plot(broken.index, broken, linewidth=0.6, alpha=0.45, **look)
        mean = pd.concat(points, axis=1).dropna().mean(axis=1)
        axes.plot(mean.index, mean, linewidth=1.8, label=loss_label(str(name)), **look)
        end = (mean.index[-1], mean.iloc[-1]) if len(mean) else (0.0, 0.0)
        style.mark_incomplete(axes, end, len(of_loss), int((declared["loss"] == name).sum()))
    axes.set_xlabel("epochs")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="0.9", linewidth=0.6)
