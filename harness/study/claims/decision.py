"""What the estimates of a claim say about the range in which it is true."""

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
    """``estimates`` of contrasts, all of which lie in the range ``true`` where the claim is true."""

    estimates: Sequence[Estimate]
    true: TrueRange

    @property
    def seeds(self) -> int:
        return min(estimate.n for estimate in self.estimates)

    @functools.cached_property
    def p_true(self) -> float:
        """Of "some contrast is out of range": the largest of theirs (an intersection-union test)."""
        return max(p_inside(estimate, self.true) for estimate in self.estimates)

    @functools.cached_property
    def p_false(self) -> float:
        """Of "every contrast is in range": the smallest of theirs, times their number (Bonferroni)."""
        return min(1.0, len(self.estimates) * min(p_outside(estimate, self.true) for estimate in self.estimates))

    @property
    def p(self) -> float:
        """Two-sided, since a claim may be decided either way; 1 where there are too few seeds."""
        return 1.0 if self.seeds < SEEDS else min(1.0, 2 * min(self.p_true, self.p_false))

    @property
    def speaks_against(self) -> bool:
        return self.p_false < self.p_true

    @property
    def deciding(self) -> int:
        """The contrast that speaks most against the claim."""
        every = range(len(self.estimates))
        if self.speaks_against:
            return min(every, key=lambda index: p_outside(self.estimates[index], self.true))
        return max(every, key=lambda index: p_inside(self.estimates[index], self.true))

    def level(self, level: float) -> float:
        """Of the deciding contrast's interval, where ``level`` is what the family leaves to the claim. To be the one
        of several that is out of range takes more than to be in range with all others."""
        return 1 - (1 - level) / len(self.estimates) if self.speaks_against else level

    def word(self, level: float) -> str:
        """The whole interval in range, out of it, or neither."""
        if self.p >= 1 - level:
            return "INCONCLUSIVE"
        return "CONTRADICTED" if self.speaks_against else "REPRODUCED"

    @property
    def distance(self) -> float:
        """Of the deciding contrast from the nearest end of the range."""
        mean = self.estimates[self.deciding].mean
        return min(abs(mean - self.true.low), abs(mean - self.true.high))


def p_inside(estimate: Estimate, true: TrueRange) -> float:
    """One-sided p of "not in range"; for a range with two ends, two one-sided tests (TOST)."""
    return max(estimate.p_above(true.low), estimate.p_below(true.high))


def p_outside(estimate: Estimate, true: TrueRange) -> float:
    """One-sided p of "in range"."""
    return min(estimate.p_below(true.low), estimate.p_above(true.high))
