"""Compares published numbers with measured ones, and says why they are comparable or not."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from harness.manifest import Manifest
from harness.study.axes import Setting
from harness.study.papers.published import ELSEWHERE, Number, differences, number, papers
from harness.study.statistics import Interval, mean_interval, prediction
from harness.study.table import METRICS, ResultTable
from harness.study.text import count

#: The most differences that a report names; a single one makes numbers not comparable.
MOST_DIFFERENCES = 3


@dataclass(frozen=True)
class PublishedComparison:
    """A published number, and the ``arm`` that is nearest to its setting.

    ``differences``: how their settings differ. ``measured``: the mean of the arm; ``expected``: where one more run of
    it would lie with a probability of 95 %; both have no seeds if there is no such arm.
    """

    number: Number
    arm: Setting
    differences: list[str]
    measured: Interval
    expected: Interval

    @property
    def comparable(self) -> bool:
        """Whether published and measured number have the same setting."""
        return not self.differences

    @property
    def summary(self) -> str:
        """The result of the comparison, in a clause."""
        if not self.number.published:
            return "its value could not be read"
        if not self.arm:
            return "no arm has this loss and method"
        if not self.comparable:
            more = len(self.differences) - MOST_DIFFERENCES
            rest = f", and {count(more, 'difference')} more" if more > 0 else ""
            return f"not comparable: {', '.join(self.differences[:MOST_DIFFERENCES])}{rest}"
        if self.expected.n < 2:
            return "the same setting, but a prediction needs two seeds of the arm"
        inside = self.expected.low <= (self.number.value or 0.0) <= self.expected.high
        place = "inside" if inside else "outside"
        expected = f"{self.expected.low:.2f} to {self.expected.high:.2f}"
        return f"comparable: {place} the range in which one more run is expected ({expected})"


def of_claims(table: ResultTable) -> dict[str, list[PublishedComparison]]:
    """Return, by the name of each claim, the numbers that it refers to."""
    arms = _arms(table)
    return {
        claim.name: [_compare(number(reference), table, arms) for reference in claim.published]
        for claim in table.manifest.claims
    }


def of_same_images(table: ResultTable) -> list[PublishedComparison]:
    """Return all numbers that papers and other code bases report of these losses on this data set."""
    arms, images = _arms(table), _dataset(table.manifest)
    every = [number for paper in papers().values() for number in paper.numbers.values()]
    known = [number for number in every if number.published and number.metric in METRICS]
    comparisons = [_compare(number, table, arms) for number in known if number.setting.get("dataset") == images]
    return [comparison for comparison in comparisons if comparison.arm]


def _dataset(manifest: Manifest) -> str:
    return manifest.on.name if manifest.on else manifest.own_dataset.name


def _dataset_label(manifest: Manifest) -> str:
    """Return an image folder's title, if it has one, unless the title is a paper's data set: it may be a copy."""
    titled = _dataset(manifest) == "imagefolder" and manifest.dataset not in ELSEWHERE.values()
    return manifest.dataset if titled else _dataset(manifest)


def _arms(table: ResultTable) -> pd.DataFrame:
    """Return a row for each arm: its axes, its method, and for every metric the list of its values over seeds."""
    axes = [name for name in table.axes if name != "seed"]
    arms = table.frame.groupby(axes, sort=False)[list(METRICS)].agg(list).reset_index()
    return arms if "method" in axes else arms.assign(method=table.manifest.common.method.name)


def _compare(number: Number, table: ResultTable, arms: pd.DataFrame) -> PublishedComparison:
    """Compare a published number with the arm that agrees with it in most of its settings."""
    nearest = arms[(arms["loss"] == number.setting.get("loss")) & (arms["method"] == number.setting.get("method"))]
    if nearest.empty:
        return PublishedComparison(number, {}, [], mean_interval([]), mean_interval([]))
    for name, value in number.setting.items():
        if name in nearest and (nearest[name] == value).any():
            nearest = nearest[nearest[name] == value]
    row = {str(name): value for name, value in nearest.iloc[0].items()}
    measured = row.get(number.metric, [])  # top-5 accuracy is published, and never measured by harness
    values = [value for value in measured if value == value]  # noqa: PLR0124  (NaN: not finished)
    arm = {name: value for name, value in row.items() if name in table.axes}
    settings = {**table.fixed, **table.manifest.evaluation.final(), "dataset": _dataset_label(table.manifest)}
    differing = differences(number, {**settings, **arm})
    return PublishedComparison(number, arm, differing, mean_interval(values), prediction(values))
