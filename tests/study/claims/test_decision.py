"""What evidence says about a range: against textbooks, statsmodels' TOST, and the intervals that a report shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from harness.study.claims.decision import SEEDS, Evidence, p_inside, p_outside
from harness.study.claims.measures import TrueRange
from harness.study.statistics import Estimate, of_difference, of_mean

ABOVE, BELOW, WITHIN = TrueRange(0, math.inf), TrueRange(-math.inf, 0), TrueRange(-1, 1)
FIRST, SECOND = [80.1, 80.9, 79.7, 80.4, 80.2], [80.0, 80.6, 80.1, 79.9, 80.3]

estimates = st.builds(
    Estimate,
    mean=st.floats(-3, 3),
    error=st.floats(0.01, 2),
    df=st.floats(2, 20),
    n=st.integers(3, 10),
    paired=st.booleans(),
)
ranges = st.sampled_from([ABOVE, BELOW, WITHIN, TrueRange(0.5, math.inf), TrueRange(-0.1, 0.1)])
levels = st.sampled_from([0.95, 0.975, 0.9875])


def near(mean: float, error: float = 0.1, n: int = 3) -> Estimate:
    return Estimate(mean, error, n - 1, n)


def sample(mean: float, sd: float, n: int) -> list[float]:
    """Of exactly this mean and standard deviation."""
    spaced = np.linspace(-1, 1, n)
    return list(mean + sd * spaced / spaced.std(ddof=1))


def at_edge(evidence: Evidence, level: float) -> bool:
    """Where rounding decides."""
    return abs(evidence.p - (1 - level)) < 1e-9 or abs(evidence.p_true - evidence.p_false) < 1e-12


def test_an_equivalence_of_a_textbook() -> None:
    """Moral judgements of 95 and 89 people differ by less than d = 0.43, t(182) = -2.69, p = .004: data of Moery and
    Calin-Jageman (2016), tested by Lakens (2017) in R's TOSTER, ?TOSTtwo. (182 without Welch, 181.1 with.)"""
    found = of_difference(sample(5.25, 0.95, 95), sample(5.22, 0.83, 89), paired=False)
    bound = 0.43 * math.sqrt((0.95**2 + 0.83**2) / 2)
    assert (found.mean - bound) / found.error == pytest.approx(-2.69, abs=5e-3)
    assert found.df == pytest.approx(181.1, abs=0.05)
    assert p_inside(found, TrueRange(-bound, bound)) == pytest.approx(0.004, abs=5e-4)
    assert Evidence([found], TrueRange(-bound, bound)).word(0.95) == "REPRODUCED"


@pytest.mark.parametrize("margin", [0.2, 0.5, 1.0])
def test_equivalence_is_statsmodels_tost(margin: float) -> None:
    first, second, inside = np.array(FIRST), np.array(SECOND), TrueRange(-margin, margin)
    paired, unpaired = (of_difference(FIRST, SECOND, paired) for paired in (True, False))
    assert p_inside(paired, inside) == pytest.approx(ttost_paired(first, second, -margin, margin)[0])
    theirs = ttost_ind(first, second, -margin, margin, usevar="unequal")[0]
    assert p_inside(unpaired, inside) == pytest.approx(theirs)


@given(estimates, ranges, st.floats(0.001, 0.4))
def test_one_sided_p_agrees_with_the_interval(estimate: Estimate, true: TrueRange, p: float) -> None:
    inside, outside, interval = p_inside(estimate, true), p_outside(estimate, true), estimate.interval(1 - 2 * p)
    assume(min(abs(inside - p), abs(outside - p)) > 1e-9)
    assert (inside < p) == (true.low < interval.low and interval.high < true.high)
    assert (outside < p) == (interval.high < true.low or interval.low > true.high)


@given(estimates, ranges)
def test_what_is_in_range_is_not_out_of_it(estimate: Estimate, true: TrueRange) -> None:
    """For a range with one end the two are complements."""
    inside, outside = p_inside(estimate, true), p_outside(estimate, true)
    assert inside + outside >= 1 - 1e-9
    if math.inf in (-true.low, true.high):
        assert inside + outside == pytest.approx(1)


@given(st.lists(estimates, min_size=1, max_size=6), ranges, levels)
def test_a_word_is_where_the_intervals_lie(contrasts: Sequence[Estimate], true: TrueRange, level: float) -> None:
    """REPRODUCED: all in range at the family's level; CONTRADICTED: one of m out of it, at Bonferroni's."""
    evidence = Evidence(contrasts, true)
    assume(not at_edge(evidence, level))
    all_in = all(
        true.low < interval.low and interval.high < true.high for interval in (one.interval(level) for one in contrasts)
    )
    bonferroni = 1 - (1 - level) / len(contrasts)
    one_out = any(
        interval.high < true.low or interval.low > true.high
        for interval in (one.interval(bonferroni) for one in contrasts)
    )
    assert evidence.word(level) == ("REPRODUCED" if all_in else "CONTRADICTED" if one_out else "INCONCLUSIVE")


@given(st.lists(estimates, min_size=1, max_size=6), ranges, levels)
def test_the_interval_that_is_shown_agrees_with_the_word(
    contrasts: Sequence[Estimate], true: TrueRange, level: float
) -> None:
    evidence = Evidence(contrasts, true)
    assume(not at_edge(evidence, level))
    shown = contrasts[evidence.deciding].interval(evidence.level(level))
    word = evidence.word(level)
    assert (word == "REPRODUCED") == (true.low < shown.low and shown.high < true.high)
    assert (word == "CONTRADICTED") == (shown.high < true.low or shown.low > true.high)


@given(st.lists(estimates, min_size=1, max_size=6), ranges, levels, levels)
def test_what_a_wider_interval_decides_a_narrower_one_does(
    contrasts: Sequence[Estimate], true: TrueRange, one: float, other: float
) -> None:
    evidence = Evidence(contrasts, true)
    wide = evidence.word(max(one, other))
    assert wide in ("INCONCLUSIVE", evidence.word(min(one, other)))


@given(estimates, levels)
def test_mirrored_evidence_says_the_opposite(estimate: Estimate, level: float) -> None:
    opposite = {"REPRODUCED": "CONTRADICTED", "CONTRADICTED": "REPRODUCED", "INCONCLUSIVE": "INCONCLUSIVE"}
    mirrored = Estimate(-estimate.mean, estimate.error, estimate.df, estimate.n)
    assert Evidence([mirrored], ABOVE).word(level) == opposite[Evidence([estimate], ABOVE).word(level)]


@pytest.mark.parametrize(
    ("means", "true", "word"),
    [
        ([1.0], ABOVE, "REPRODUCED"),
        ([-1.0], ABOVE, "CONTRADICTED"),
        ([0.3], ABOVE, "INCONCLUSIVE"),
        ([-1.0], BELOW, "REPRODUCED"),
        ([0.0], WITHIN, "REPRODUCED"),
        ([2.0], WITHIN, "CONTRADICTED"),
        ([-2.0], WITHIN, "CONTRADICTED"),
        ([0.9], WITHIN, "INCONCLUSIVE"),
        ([1.0, 1.0, 0.3], ABOVE, "INCONCLUSIVE"),
        ([1.0, 1.0, -2.0], ABOVE, "CONTRADICTED"),
    ],
)
def test_words(means: list[float], true: TrueRange, word: str) -> None:
    """With three seeds and an error of 0.1 a 95 % interval reaches 0.43 to each side."""
    assert Evidence([near(mean) for mean in means], true).word(0.95) == word


def test_to_be_the_one_of_several_out_of_range_takes_more() -> None:
    out = near(-0.5)  # its 95 % interval ends at -0.07
    assert Evidence([out], ABOVE).word(0.95) == "CONTRADICTED"
    several = Evidence([near(1.0), out, near(1.0)], ABOVE)
    assert several.word(0.95) == "INCONCLUSIVE"
    assert several.deciding == 1
    assert several.level(0.95) == pytest.approx(1 - 0.05 / 3)
    assert several.p == pytest.approx(2 * 3 * out.p_below(0))


def test_to_be_in_range_with_all_others_takes_no_more() -> None:
    several = Evidence([near(1.0), near(0.5), near(1.0)], ABOVE)
    assert several.word(0.95) == "REPRODUCED"
    assert (several.deciding, several.level(0.95)) == (1, 0.95)
    assert several.p == pytest.approx(2 * near(0.5).p_above(0))


def test_fewer_than_three_seeds_decide_nothing() -> None:
    for seeds, word in ((SEEDS - 1, "INCONCLUSIVE"), (SEEDS, "REPRODUCED")):
        evidence = Evidence([of_mean([100.0 + 1e-6 * seed for seed in range(seeds)])], ABOVE)
        assert evidence.word(0.95) == word
    assert Evidence([near(9.0, n=10), near(9.0, n=2)], ABOVE).p == 1.0


def test_the_distance_is_to_the_nearest_end() -> None:
    assert Evidence([near(0.7)], WITHIN).distance == pytest.approx(0.3)
    assert Evidence([near(-1.4)], WITHIN).distance == pytest.approx(0.4)
    assert Evidence([near(2.0), near(0.2)], ABOVE).distance == pytest.approx(0.2)


def test_p_is_two_sided_and_at_most_one() -> None:
    assert Evidence([near(0.0)], ABOVE).p == 1.0
    assert Evidence([near(1.0)], ABOVE).p == pytest.approx(2 * near(1.0).p_above(0))
