"""Published numbers beside measured ones, and what makes them comparable or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.evaluation import final
from harness.manifest import Manifest
from harness.study.axes import axis_columns, fixed
from harness.study.frame import METRICS
from harness.study.papers.published import ELSEWHERE, Number, differences, number, papers
from harness.study.statistics import Interval, mean_interval, prediction
from harness.study.text import count

#: That are said; one is enough to compare nothing.
MOST_DIFFERENCES = 3


@dataclass(frozen=True)
class PublishedComparison:
    """A published number beside the arm that is nearest to its setting. ``measured``: that arm's mean; ``expected``:
    where one more run of it would lie with 95 %; both of no seeds where there is no such arm. ``apart``: how the
    settings differ.
    """

    number: Number
    arm: Mapping[str, Any]
    differences: list[str]
    measured: Interval
    expected: Interval

    @property
    def comparable(self) -> bool:
        return not self.differences

    @property
    def said(self) -> str:
        """What the comparison says, in a clause."""
        if not self.number.published:
            return "its value could not be read"
        if not self.arm:
            return "no such arm here"
        if not self.comparable:
            more = len(self.differences) - MOST_DIFFERENCES
            rest = f", and {count(more, 'difference')} more" if more > 0 else ""
            return f"not comparable: {', '.join(self.differences[:MOST_DIFFERENCES])}{rest}"
        if self.expected.n < 2:
            return "the same setting, but it takes two seeds of what was published to expect anything"
        inside = self.expected.low <= (self.number.value or 0.0) <= self.expected.high
        place = "where one more run is expected" if inside else "not where one more run is expected"
        return f"comparable: {place} ({self.expected.low:.2f} to {self.expected.high:.2f})"


def of_claims(manifest: Manifest, frame: pd.DataFrame) -> dict[str, list[PublishedComparison]]:
    """By claim, the numbers that it refers to."""
    arms = _arms(manifest, frame)
    return {
        claim.name: [_beside(number(reference), manifest, arms) for reference in claim.published]
        for claim in manifest.claims
    }


def of_same_images(manifest: Manifest, frame: pd.DataFrame) -> list[PublishedComparison]:
    """All that papers and other code bases report of these losses on this data set."""
    arms = _arms(manifest, frame)
    every = [one for paper in papers().values() for one in paper.numbers.values()]
    known = [one for one in every if one.published and one.metric in METRICS]
    images = _dataset(manifest)
    found = [_beside(one, manifest, arms) for one in known if one.setting.get("dataset") == images]
    return [one for one in found if one.arm]


def _dataset(manifest: Manifest) -> str:
    return manifest.on.name if manifest.on else manifest.own_dataset.name


def _shown_as(manifest: Manifest) -> str:
    """An image folder that was given a title is that, unless the title is a paper's data set: it may be a copy."""
    titled = _dataset(manifest) == "imagefolder" and manifest.dataset not in ELSEWHERE.values()
    return manifest.dataset if titled else _dataset(manifest)


def _arms(manifest: Manifest, frame: pd.DataFrame) -> pd.DataFrame:
    """A row an arm: its axes, its method, and of every metric the list over seeds."""
    axes = [name for name in axis_columns(manifest) if name != "seed"]
    arms = frame.groupby(axes, sort=False)[list(METRICS)].agg(list).reset_index()
    return arms if "method" in axes else arms.assign(method=manifest.settings["method"]["name"])


def _beside(number: Number, manifest: Manifest, arms: pd.DataFrame) -> PublishedComparison:
    nearest = arms[(arms["loss"] == number.setting.get("loss")) & (arms["method"] == number.setting.get("method"))]
    if nearest.empty:
        return PublishedComparison(number, {}, [], mean_interval([]), mean_interval([]))
    for name, value in number.setting.items():
        if name in nearest and (nearest[name] == value).any():
            nearest = nearest[nearest[name] == value]
    arm = {str(name): value for name, value in nearest.iloc[0].items()}
    measured = arm.get(number.metric, [])  # top-5 accuracy is published, and measured nowhere here
    values = [value for value in measured if value == value]  # noqa: PLR0124  (NaN: not finished)
    own = {name: value for name, value in arm.items() if name in axis_columns(manifest)}
    settings = {**fixed(manifest), **final(manifest.evaluation), "dataset": _shown_as(manifest)}
    return PublishedComparison(
        number, own, differences(number, {**settings, **own}), mean_interval(values), prediction(values)
    )
