"""Means, intervals, tests and numbers of seeds: each is a small function around scipy or statsmodels.

docs/statistics.md says why each was chosen, and what error rates simulations find.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a plan checks claims, and must not wait for pandas
    import pandas as pd

CONFIDENCE = 0.95
#: The chance that any claim of an experiment is decided wrongly.
ALPHA = 1 - CONFIDENCE
#: The probability with which the seeds that a verdict asks for would decide it.
POWER = 0.8
#: The largest number of seeds that a verdict asks for.
MOST_SEEDS = 200
#: Accuracies have two decimals; a smaller difference than this comes from floating point.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds with its t interval; the bounds are NaN for fewer than two."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of two, with its standard ``error`` and degrees of freedom ``df``.

    ``n``: the seeds of each arm. ``paired``: whether a difference of arms was taken seed by seed. For fewer than two
    seeds, ``error`` is NaN.
    """

    mean: float
    error: float
    df: float
    n: int
    paired: bool = True

    def interval(self, level: float) -> Interval:
        """Return the t interval with this confidence; its bounds are NaN where there are fewer than two values."""
        from scipy.special import stdtrit  # scipy.stats takes a second to import, which plans need not wait for

        half = self.error * float(stdtrit(self.df, (1 + level) / 2)) if self.n > 1 else float("nan")
        return Interval(self.mean, self.mean - half, self.mean + half, self.n)

    def p_above(self, bound: float) -> float:
        """Return the one-sided p of "the true value is at most ``bound``"; 1 if nothing is known."""
        from scipy.special import stdtr

        if self.n < 2:
            return 1.0
        if self.error == 0:
            # A difference of zero with every seed comes from arms that are one computation. Any other number that is
            # the same with every seed is chance, on a small test set: these seeds say nothing about its spread.
            return 0.0 if abs(self.mean) < ROUNDING and bound < -ROUNDING else 1.0
        return float(stdtr(self.df, (bound - self.mean) / self.error))

    def p_below(self, bound: float) -> float:
        """Return the one-sided p of "the true value is at least ``bound``"."""
        return Estimate(-self.mean, self.error, self.df, self.n).p_above(-bound)


def mean_interval(values: Sequence[float], level: float = CONFIDENCE) -> Interval:
    """Return Student's t interval of a mean: at these sample sizes a bootstrap's is too narrow (84 % at n = 5).

    Args:
        values: (n,), a number for each seed.
    """
    return of_mean(values).interval(level)


def of_mean(values: Sequence[float]) -> Estimate:
    """Return the estimate of a mean over seeds; ``values``: (n,)."""
    import numpy as np

    n = len(values)
    mean = float(np.mean(values)) if n else float("nan")
    return Estimate(mean, _error(float(np.std(values, ddof=1)) / math.sqrt(n)) if n > 1 else float("nan"), n - 1, n)


def _error(computed: float) -> float:
    """Return the error, or zero for numbers that are all the same but for floating point."""
    return computed if computed >= ROUNDING else 0.0


def of_difference(first: Sequence[float], second: Sequence[float], paired: bool) -> Estimate:
    """Return the mean of ``first`` less the mean of ``second``; (n,) each, in the same order of seeds.

    The unpaired estimate is Welch's: the variances of the arms may differ. Arms that are equal with every seed to the
    last digit are one computation, so that their difference is paired in any case.
    """
    if paired or list(first) == list(second) or min(len(first), len(second)) < 2:
        return of_mean([value - other for value, other in zip(first, second, strict=True)])
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

    arms = CompareMeans(DescrStatsW(list(first)), DescrStatsW(list(second)))
    mean, n = of_mean(first).mean - of_mean(second).mean, min(len(first), len(second))
    error = _error(float(arms.std_meandiff_separatevar))
    # If neither arm varies, any number of degrees of freedom gives the same interval.
    df = float(arms.dof_satt()) if error > 0 else len(first) + len(second) - 2.0
    return Estimate(mean, error, df, n, paired=False)


@dataclass(frozen=True)
class SeedEffect:
    """Whether what a seed decides (weights, order, views) moves the arms together.

    ``correlation``: mean over pairs of ``arms``; ``p``: Friedman's test of "no seed is better than another in all of
    them". Both are NaN if there are fewer than three seeds or two arms.
    """

    correlation: float
    p: float
    arms: int
    seeds: int

    @property
    def paired(self) -> bool:
        """Whether seeds move the arms together, so that arms are compared seed by seed."""
        return self.p < ALPHA


def seed_effect(table: pd.DataFrame) -> SeedEffect:
    """Return the effect of seeds in a table with a row for each seed and a column for each complete arm.

    It looks at how seeds rank within arms, and never at a difference between arms: so whether to pair cannot be chosen
    by the result. Seeds are the treatments and arms the blocks of Friedman's test, in which every arm counts the same
    however much its accuracy varies.
    """
    import numpy as np

    seeds, arms = table.shape
    unknown = SeedEffect(float("nan"), float("nan"), arms, seeds)
    if seeds < 3 or arms < 2:
        return unknown
    from scipy.stats import friedmanchisquare

    varying = table.loc[:, table.std() > 0]
    if varying.shape[1] < 2:
        return unknown
    correlations, count = np.corrcoef(varying.to_numpy().T), varying.shape[1]
    correlation = float((correlations.sum() - count) / (count * (count - 1)))
    return SeedEffect(correlation, float(friedmanchisquare(*varying.to_numpy()).pvalue), arms, seeds)


def holm(p: Sequence[float]) -> list[float]:
    """Return the level at which Holm's procedure tests each hypothesis of a family: the interval at this level excludes
    a hypothesis that the procedure rejects, and includes one that it does not.

    The j-th smallest p is compared with alpha / (m - j + 1) until one fails; all others stop at that one's level.
    """
    from statsmodels.stats.multitest import multipletests

    if not p:
        return []
    rejected = multipletests(p, alpha=ALPHA, method="holm")[0]
    order = sorted(range(len(p)), key=p.__getitem__)
    steps = {index: min(step, int(rejected.sum())) for step, index in enumerate(order)}
    return [1 - ALPHA / (len(p) - steps[index]) for index in range(len(p))]


def seeds_needed(estimate: Estimate, distance: float, level: float) -> int | None:
    """Return how many seeds of each arm would decide with probability ``POWER``, if the true value is as far from the
    bound as the estimate (``distance``); None for more than ``MOST_SEEDS``."""
    from statsmodels.stats.power import TTestIndPower, TTestPower

    alpha, error = (1 - level) / 2, estimate.error
    spread = error * math.sqrt(estimate.n if estimate.paired else estimate.n / 2)
    test = TTestPower() if estimate.paired else TTestIndPower()
    if spread == 0:
        return None
    for n in range(estimate.n + 1, MOST_SEEDS + 1):
        if float(test.power(distance / spread, n, alpha, alternative="larger")) >= POWER:
            return n
    return None


def prediction(values: Sequence[float]) -> Interval:
    """Return the interval in which one more run of the same arm would lie with a probability of 95 %.

    A published number, which is one run of somebody else, is compared with it. ``values``: (n,)."""
    from statsmodels.regression.linear_model import OLS

    n = len(values)
    if n < 2:
        return mean_interval(values)
    predicted = OLS(list(values), [1.0] * n).fit().get_prediction([1.0]).summary_frame(alpha=ALPHA)
    low, high = (float(predicted[f"obs_ci_{end}"].iloc[0]) for end in ("lower", "upper"))
    return Interval(mean_interval(values).mean, low, high, n)
