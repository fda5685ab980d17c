"""What a claim can measure: each measure turns the accuracies of its arms into contrasts, and says when it is true.

Every measure is a set of linear contrasts of accuracies, all of which must lie in a range. So "flat within m points" is
not about the distance of the best value from the worst, which noise alone makes positive: it says that no two values
differ by more than m, an intersection of as many equivalence tests as there are pairs (Berger and Hsu 1996).

A new measure is a function and an entry in ``MEASURES``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.cell import short_name
from harness.manifest import Claim
from harness.study.text import axis_label, signed

if TYPE_CHECKING:  # a plan checks claims, and must not wait for pandas
    import pandas as pd

#: The accuracies of each arm: a row for each seed, a column for each value of ``over`` if it has one.
Accuracies = Mapping[str, "pd.DataFrame"]
INFINITY = float("inf")
#: The smallest accuracy of a ratio, in per cent: one image in ten thousand.
LEAST = 0.01


@dataclass(frozen=True)
class TrueRange:
    """The values between ``low`` and ``high``: those that make a claim true."""

    low: float
    high: float

    def __str__(self) -> str:
        if self.high == INFINITY:
            return f"more than {self.low:g}"
        return f"less than {self.high:g}" if self.low == -INFINITY else f"within ±{self.high:g}"


@dataclass(frozen=True)
class Contrast:
    """``first`` less ``second``, (n,) each, by seed; ``second`` is None if one arm is measured alone."""

    label: str
    first: pd.Series
    second: pd.Series | None = None


@dataclass(frozen=True)
class MeasuredContrasts:
    """The contrasts of a claim, and the range in which all of them lie if the claim is true.

    ``summary``: the means behind the contrasts, in a clause; ``scale``: turns a contrast into the number that people
    read.
    """

    contrasts: list[Contrast]
    true: TrueRange
    summary: str
    scale: Callable[[float], float] = float


@dataclass(frozen=True)
class Measure:
    """A quantity that a claim can be about, and the rules of a claim that is about it.

    Attributes:
        says: What is measured, in words.
        function: Computes the contrasts from the claim, the accuracies of its arms and its margin.
        arms: How many arms the measure can take.
        margin: The margin if a claim declares none; None if every claim must declare its own.
        positive_margin: The numbers of arms with which a margin must be above zero, since the measured number must then
            lie within the margin on both sides, or since its logarithm is taken.
        unit: The unit of what is measured.
        along: Whether the accuracies are measured along an axis.
        ends: Whether only the smallest and the largest value of that axis count.
        needs_positive_axis: Whether every value of that axis must be above zero, since its logarithm is taken.
        keeps: Whether the measure is about accuracy that is kept, of which a collapsed arm has none.
    """

    says: str
    function: Callable[[Claim, Accuracies, float], MeasuredContrasts]
    arms: tuple[int, ...]
    margin: float | None = 0.0
    positive_margin: tuple[int, ...] = ()
    unit: str = "points"
    along: bool = False
    ends: bool = False
    needs_positive_axis: bool = False
    keeps: bool = True


def difference(claim: Claim, arms: Accuracies, margin: float) -> MeasuredContrasts:
    """The first arm less the second."""
    return MeasuredContrasts([_against(arms)], TrueRange(margin, INFINITY), _means(arms))


def equality(claim: Claim, arms: Accuracies, margin: float) -> MeasuredContrasts:
    """The first arm less the second, which must lie within the margin on both sides (two one-sided tests)."""
    return MeasuredContrasts([_against(arms)], TrueRange(-margin, margin), _means(arms))


def ratio(claim: Claim, arms: Accuracies, margin: float) -> MeasuredContrasts:
    """The first arm over the second, which must exceed the margin, a factor; computed as a difference of logarithms.

    Accuracies below LEAST count as LEAST.
    """
    import numpy as np

    logarithms = ((name, np.log(table.iloc[:, 0].clip(lower=LEAST))) for name, table in arms.items())
    (name, first), (other, second) = logarithms
    contrast = Contrast(f"{name} / {other}", first, second)
    return MeasuredContrasts([contrast], TrueRange(math.log(margin), INFINITY), _means(arms), scale=math.exp)


def ordering(claim: Claim, arms: Accuracies, margin: float) -> MeasuredContrasts:
    """Every arm less the next one."""
    tables = [(name, table.iloc[:, 0]) for name, table in arms.items()]
    contrasts = [
        Contrast(f"{name} − {other}", first, second) for (name, first), (other, second) in itertools.pairwise(tables)
    ]
    return MeasuredContrasts(contrasts, TrueRange(margin, INFINITY), _means(arms))


def drop(claim: Claim, arms: Accuracies, margin: float) -> MeasuredContrasts:
    """The loss of an arm from the largest value to the smallest; of two arms, how much less the first loses.

    Where accuracy rises as the batch shrinks (equal epochs are more steps), this is how much more the first gains.
    """
    columns = next(iter(arms.values())).columns
    small, large = columns[0], columns[-1]
    losses = {name: table[large] - table[small] for name, table in arms.items()}
    changes = " and ".join(f"{name} changes by {signed(-loss.mean())}" for name, loss in losses.items())
    summary = f"from {axis_label(short_name(claim.over))} {large:g} to {small:g}, {changes} points"
    return MeasuredContrasts([_less(losses, "loss of")], _smaller(losses, margin), summary)


def drop_from_best(claim: Claim, arms: Accuracies, margin: float) -> MeasuredContrasts:
    """Whether no value of the axis is better than the smallest by the margin: every other value less the smallest.

    Which value is best must not be chosen by the noise of what is then compared; that none is better by the margin
    needs no choice. (Two arms cannot be compared in this way: docs/statistics.md.)
    """
    ((name, table),) = arms.items()
    along, smallest, best = axis_label(short_name(claim.over)), table.columns[0], table.mean().idxmax()
    change = signed((table[smallest] - table[best]).mean())
    summary = f"down to {along} {smallest:g}, {name} is best at {best:g} and changes by {change} points from there"
    contrasts = [Contrast(f"{along} {value:g} − {smallest:g}", table[value], table[smallest])
                 for value in table.columns[1:]]  # fmt: skip
    return MeasuredContrasts(contrasts, TrueRange(-INFINITY, margin), summary)


def spread(claim: Claim, arms: Accuracies, margin: float) -> MeasuredContrasts:
    """Every value of the axis less every other one: no two may differ by more than the margin."""
    ((name, table),) = arms.items()
    along = axis_label(short_name(claim.over))
    contrasts = [Contrast(f"{along} {value:g} − {other:g}", table[value], table[other])
                 for value, other in itertools.combinations(table.columns, 2)]  # fmt: skip
    means = ", ".join(f"{mean:.2f} at {value:g}" for value, mean in table.mean().items())
    return MeasuredContrasts(contrasts, TrueRange(-margin, margin), f"{name} has {means} along {along}")


def slope(claim: Claim, arms: Accuracies, margin: float) -> MeasuredContrasts:
    """The points gained by doubling the axis, by least squares; of two arms, how much less the first gains."""
    import numpy as np

    slopes = {}
    for name, table in arms.items():
        doublings = np.log2(table.columns.to_numpy(dtype=float))
        centred = doublings - doublings.mean()
        slopes[name] = table @ (centred / (centred**2).sum())
    gains = " and ".join(f"{name} gains {signed(slope.mean())}" for name, slope in slopes.items())
    flat = TrueRange(-margin, margin) if len(slopes) == 1 else TrueRange(margin, INFINITY)
    return MeasuredContrasts(
        [_less(slopes, "gain of")], flat, f"{gains} points for every doubling of {axis_label(short_name(claim.over))}"
    )


MEASURES = {
    "difference": Measure("the first arm's accuracy less the second's", difference, (2,), keeps=False),
    "ratio": Measure("the first arm's accuracy over the second's", ratio, (2,), 1.0, (2,), unit="times"),
    "equality": Measure("the first arm's accuracy less the second's", equality, (2,), None, (2,)),
    "ordering": Measure("every arm's accuracy less the next one's", ordering, tuple(range(3, 21)), keeps=False),
    "drop": Measure("the loss from the largest value to the smallest; of two arms, how much less the first one loses",
                    drop, (1, 2), along=True, ends=True),
    "drop_from_best": Measure("the loss from the best value to the smallest", drop_from_best, (1,), along=True),
    "spread": Measure("the difference of any two values", spread, (1,), None, (1,), along=True),
    "slope": Measure("points gained with every doubling; of two arms, how much less the first one gains",
                     slope, (1, 2), positive_margin=(1,), unit="points per doubling", along=True,
                     needs_positive_axis=True),
}  # fmt: skip


def margin_of(claim: Claim) -> float:
    """Return the margin that the claim declares, or else the one of its measure."""
    return claim.margin if claim.margin is not None else float(MEASURES[claim.measure].margin or 0.0)


def _against(arms: Accuracies) -> Contrast:
    (name, first), (other, second) = arms.items()
    return Contrast(f"{name} − {other}", first.iloc[:, 0], second.iloc[:, 0])


def _less(values: Mapping[str, pd.Series], what: str) -> Contrast:
    """Return the value of the only arm; of two arms, the second's less the first's."""
    (name, first), *others = values.items()
    if not others:
        return Contrast(f"{what} {name}", first)
    ((other, second),) = others
    return Contrast(f"{what} {other} − {what} {name}", second, first)


def _smaller(values: Mapping[str, pd.Series], margin: float) -> TrueRange:
    """Return the range in which one arm's value is small; of two arms, in which the first's is smaller."""
    return TrueRange(-INFINITY, margin) if len(values) == 1 else TrueRange(margin, INFINITY)


def _means(arms: Accuracies) -> str:
    return " and ".join(f"{name} has {table.iloc[:, 0].mean():.2f}" for name, table in arms.items())
