"""Decides whether the estimates of a claim lie in the range in which it is true."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from harness.study.claims.measures import TrueRange
from harness.study.statistics import Estimate

#: Fewer seeds than these decide nothing: with two, a 95 % interval is nine standard deviations wide on each side.
SEEDS = 3


@dataclass(frozen=True)
class Evidence:
    """The ``estimates`` of a claim's contrasts; the claim is true if all of them lie in the range ``true``."""

    estimates: Sequence[Estimate]
    true: TrueRange

    @property
    def seeds(self) -> int:
        """The smallest number of seeds of any contrast."""
        return min(estimate.n for estimate in self.estimates)

    @functools.cached_property
    def p_true(self) -> float:
        """The p value of "some contrast is out of range": the largest of all contrasts (an intersection-union test)."""
        return max(p_inside(estimate, self.true) for estimate in self.estimates)

    @functools.cached_property
    def p_false(self) -> float:
        """The p value of "every contrast is in range": the smallest of all, times their number (Bonferroni)."""
        return min(1.0, len(self.estimates) * min(p_outside(estimate, self.true) for estimate in self.estimates))

    @property
    def p(self) -> float:
        """The two-sided p value, since a claim may be decided either way; 1 if there are too few seeds."""
        return 1.0 if self.seeds < SEEDS else min(1.0, 2 * min(self.p_true, self.p_false))

    @property
    def speaks_against(self) -> bool:
        """Whether the evidence against the claim is stronger than the evidence for it."""
        return self.p_false < self.p_true

    @property
    def deciding(self) -> int:
        """The index of the contrast that speaks most against the claim."""
        every = range(len(self.estimates))
        if self.speaks_against:
            return min(every, key=lambda index: p_outside(self.estimates[index], self.true))
        return max(every, key=lambda index: p_inside(self.estimates[index], self.true))

    def level(self, level: float) -> float:
        """Return the level of the deciding contrast's interval, if the family leaves ``level`` to the claim. One of
        several contrasts is easily out of range by chance, so that its level is higher."""
        return 1 - (1 - level) / len(self.estimates) if self.speaks_against else level

    def word(self, level: float) -> str:
        """Return the verdict: whether the whole interval is in range, out of it, or neither."""
        if self.p >= 1 - level:
            return "INCONCLUSIVE"
        return "CONTRADICTED" if self.speaks_against else "REPRODUCED"

    @property
    def distance(self) -> float:
        """The distance of the deciding contrast from the nearest end of the range."""
        mean = self.estimates[self.deciding].mean
        return min(abs(mean - self.true.low), abs(mean - self.true.high))


def p_inside(estimate: Estimate, true: TrueRange) -> float:
    """Return the one-sided p of "not in range"; for a range with two ends, two one-sided tests (TOST)."""
    return max(estimate.p_above(true.low), estimate.p_below(true.high))


def p_outside(estimate: Estimate, true: TrueRange) -> float:
    """Return the one-sided p of "in range"."""
    return min(estimate.p_below(true.low), estimate.p_above(true.high))
