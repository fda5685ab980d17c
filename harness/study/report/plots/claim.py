"""The figure of a claim: its arms along an axis, and the differences that decide it, seed by seed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.cell import short_name
from harness.filters import parse
from harness.study.axes import is_numeric
from harness.study.claims.comparisons import arm_names
from harness.study.claims.verdicts import Compared, Verdict
from harness.study.papers.comparison import PublishedComparison
from harness.study.report.plots import style
from harness.study.statistics import mean_interval
from harness.study.table import ResultTable
from harness.study.text import ABSENT, METRIC_LABELS, setting_label

INCHES = 7.6
ROW_INCHES = 0.3
#: The most contrasts that fit next to the left panel.
MOST_CONTRASTS = 14
#: The most letters of a line next to a panel or below it.
WRAP = 44
TRUE_COLOUR = "#D9EFE4"


def claim_figure(table: ResultTable, verdicts: list[Verdict], published: list[PublishedComparison]) -> bytes | None:
    """Return an SVG of one claim: on the left its arms in the first setting that was measured, on the right the
    contrasts of all settings. None if its arms were not declared."""
    first = next((verdict for verdict in verdicts if verdict.compared), verdicts[0])
    rows = _deciding_first(verdicts)
    drawable = next(_drawable(table, first), None)
    if not drawable and not rows:
        return None
    height = max(2.8, 1.4 + ROW_INCHES * min(len(rows), MOST_CONTRASTS))
    with style.styled():
        figure = Figure(figsize=(INCHES, height), layout="constrained")
        panels = list(figure.subplots(1, 2 if rows else 1, squeeze=False).flatten())
        if not drawable:
            _draw_points(panels[0], table, first)
        else:
            along, arms = drawable
            _draw_arms(panels[0], along, arms, _places([arm.frame for arm in arms.values()], table), first, published)
        if rows:
            _draw_contrasts(panels[-1], rows[:MOST_CONTRASTS], first)
            style.say_what_is_left_out(figure, min(len(rows), MOST_CONTRASTS), len(rows), "differences", "claims.json")
        style.legend(figure, style.handles_of(panels))
        return style.svg(figure)


def _deciding_first(verdicts: Sequence[Verdict]) -> list[tuple[Verdict, Compared]]:
    """Return all contrasts in order if they fit, or else those that decide a verdict before the others."""
    every = [(verdict, index) for verdict in verdicts for index in range(len(verdict.compared))]
    if len(every) > MOST_CONTRASTS:
        every.sort(key=lambda pair: pair[1] != pair[0].deciding)
    return [(verdict, verdict.compared[index]) for verdict, index in every]


def _drawable(table: ResultTable, verdict: Verdict) -> Iterator[tuple[str, dict[str, ResultTable]]]:
    """Yield each axis along which the arms can be drawn, and the arms along it, whatever the filters say of that axis:
    first the claim's own axis, then those that its filters name, then the main axis."""
    claim = verdict.claim
    filtered = [
        condition.path for text in (claim.at, *claim.arms) if text for condition in parse(text, short_name).conditions
    ]
    for along in dict.fromkeys((short_name(claim.over), *filtered, table.main_axis)):
        if along not in table.frame:
            continue
        setting = {name: value for name, value in verdict.setting.items() if name != along}
        cells = table.in_setting(setting).where(_without(along, claim.at))
        filters = list(dict.fromkeys(text for arm in claim.arms if (text := _without(along, arm))))
        arms = [_numeric(cells.where(text), along) for text in filters]
        if arms and all(is_numeric(arm.frame[along]) for arm in arms):
            yield along, dict(zip(arm_names(filters), arms, strict=True))


def _numeric(arm: ResultTable, along: str) -> ResultTable:
    """Return the cells that have a value on the axis, which becomes a column of numbers if all its values are."""
    return arm.of(arm.frame[arm.frame[along] != ABSENT].infer_objects())


def _without(axis: str, text: str) -> str:
    return " ".join(word for word in text.split() if parse(word, short_name).conditions[0].path != axis)


def _places(arms: Sequence[pd.DataFrame], table: ResultTable) -> list[int]:
    """Return the position of each arm's line among all looks: that of its loss, as in all figures, if this gives every
    arm another colour."""
    order, of_arms = style.order(table.manifest), [set(rows["loss"]) for rows in arms]
    if all(len(losses) == 1 for losses in of_arms):
        places = [order.index(loss) for (loss,) in of_arms]
        if len({style.of(place)["color"] for place in places}) == len(arms):
            return places
    return list(range(len(arms)))


def _draw_arms(
    axes: Axes,
    along: str,
    arms: Mapping[str, ResultTable],
    places: Sequence[int],
    verdict: Verdict,
    published: Sequence[PublishedComparison],
) -> None:
    metric = verdict.claim.metric
    for place, (name, arm) in zip(places, arms.items(), strict=True):
        style.line(axes, arm.over_seeds([along], [metric]).sort_values(along), along, name, place, metric)
    along_axis = [
        (item, position)
        for item in published
        if isinstance(position := item.number.setting.get(along), int | float) and item.number.metric == metric
    ]
    drawn_as: dict[str, int] = {}
    for place, arm in zip(places, arms.values(), strict=True):
        drawn_as = dict.fromkeys(arm.frame["loss"], place) | drawn_as
    for item, position in along_axis:
        if (loss := str(item.arm["loss"])) in drawn_as:
            _draw_published(axes, item, position, style.of(drawn_as[loss])["color"])
    values = [value for arm in arms.values() for value in arm.frame[along]]
    style.scale(axes, along, [*values, *(position for _, position in along_axis)])
    axes.set_ylabel(METRIC_LABELS[metric])
    axes.set_title(setting_label(verdict.setting), fontsize=9)


def _draw_points(axes: Axes, table: ResultTable, verdict: Verdict) -> None:
    """Draw arms that vary along no axis as points next to each other."""
    arms = [table.frame[table.frame["cell_id"].isin(cells)] for cells in verdict.cells.values()]
    looks = [style.of(place) for place in _places(arms, table)]
    for position, (name, rows, look) in enumerate(zip(verdict.cells, arms, looks, strict=True)):
        values = rows[verdict.claim.metric].dropna()
        mean = mean_interval(values.tolist())
        axes.plot([position + 0.12] * len(values), values, ".", color="#0072B2", markersize=4)
        axes.errorbar([position], [mean.mean], [[mean.mean - mean.low], [mean.high - mean.mean]], capsize=3, label=name,
                      color=look["color"], marker=look["marker"])  # fmt: skip
    axes.set_xticks([])  # the legend names them
    axes.set_xlim(-0.5, len(verdict.cells) - 0.5)
    axes.set_ylabel(METRIC_LABELS[verdict.claim.metric])
    axes.grid(axis="y", color="0.9", linewidth=0.6)


def _draw_published(axes: Axes, published: PublishedComparison, place: float, colour: str) -> None:
    """Draw a filled star if the settings are the same, an empty one if they are not."""
    face, label = (colour, "published") if published.comparable else ("none", "published, in another setting")
    height = published.number.value or 0.0
    axes.scatter([place], [height], s=80, marker="*", facecolor=face, edgecolor=colour, zorder=3, label=label)


def _draw_contrasts(axes: Axes, rows: Sequence[tuple[Verdict, Compared]], first: Verdict) -> None:
    """Draw a row for each contrast: dots are seeds, the thick line is the 95 % interval, the thin one decides."""
    several = len({compared.label for _, compared in rows}) > 1
    labels = []
    for height, (verdict, compared) in enumerate(rows):
        usual, interval = compared.interval_95, compared.interval
        axes.plot([interval.low, interval.high], [height] * 2, color="black", linewidth=0.9, marker="|", markersize=6)
        axes.plot([usual.low, usual.high], [height] * 2, color="black", linewidth=2.6, solid_capstyle="butt")
        axes.plot(compared.values, [height + 0.22] * len(compared.values), ".", color="#0072B2", markersize=4,
                  label="a seed")  # fmt: skip
        axes.plot([usual.mean], [height], "D", color="black", markersize=5)
        words = [compared.label if several else "", setting_label(verdict.setting)]
        labels.append("\n".join(textwrap.fill(word, WRAP) for word in words if word))
    _shade(axes, first)
    axes.set_yticks(range(len(rows)), labels, fontsize=7.5)
    axes.tick_params(axis="y", length=3.5 if any(labels) else 0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    what = first.compared[0].label if not several else "differences"
    axes.set_xlabel(textwrap.fill(f"{what} ({first.unit})", WRAP), fontsize=8.5)
    axes.set_title(f"the claim: {first.true}", fontsize=9)


def _shade(axes: Axes, verdict: Verdict) -> None:
    """Shade the range in which the claim is true."""
    if verdict.true is None:
        return
    low, high = axes.get_xlim()
    ends = [end for end in (verdict.true.low, verdict.true.high) if abs(end) < float("inf")]
    room = 0.06 * max(high - low, 0.1)
    low, high = min(low, *(end - room for end in ends)), max(high, *(end + room for end in ends))
    axes.set_xlim(low, high)
    axes.axvspan(max(low, verdict.true.low), min(high, verdict.true.high), color=TRUE_COLOUR, zorder=0, linewidth=0,
                 label="where the claim is true")  # fmt: skip
    for end in ends:
        axes.axvline(end, color="0.4", linewidth=0.8, linestyle=":")
    axes.grid(axis="x", color="0.9", linewidth=0.6)
