"""Estimates, intervals, tests and seeds against textbooks, scipy and statsmodels."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests

from harness.study.statistics import (
    ALPHA,
    MOST_SEEDS,
    Estimate,
    holm,
    mean_interval,
    of_difference,
    of_mean,
    prediction,
    seed_effect,
    seeds_needed,
)

#: Hours of sleep gained with two drugs by ten patients: Student, "The probable error of a mean", Biometrika 1908.
SLEEP = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)
#: Three ways of rounding first base, 22 players: Hollander and Wolfe (1973), page 140, as in R's ?friedman.test.
ROUNDING = np.array(
    [
        "5.40",
        "5.50",
        "5.55",
        "5.85",
        "5.70",
        "5.75",
        "5.20",
        "5.60",
        "5.50",
        "5.55",
        "5.50",
        "5.40",
        "5.90",
        "5.85",
        "5.70",
        "5.45",
        "5.55",
        "5.60",
        "5.40",
        "5.40",
        "5.35",
        "5.45",
        "5.50",
        "5.35",
        "5.25",
        "5.15",
        "5.00",
        "5.85",
        "5.80",
        "5.70",
        "5.25",
        "5.20",
        "5.10",
        "5.65",
        "5.55",
        "5.45",
        "5.60",
        "5.35",
        "5.45",
        "5.05",
        "5.00",
        "4.95",
        "5.50",
        "5.50",
        "5.40",
        "5.45",
        "5.55",
        "5.50",
        "5.55",
        "5.55",
        "5.35",
        "5.45",
        "5.50",
        "5.55",
        "5.50",
        "5.45",
        "5.25",
        "5.65",
        "5.60",
        "5.40",
        "5.70",
        "5.65",
        "5.55",
        "6.30",
        "6.30",
        "6.25",
    ],
    dtype=float,
).reshape(22, 3)

#: In hundredths, so that what differs differs by more than rounding.
number = st.integers(-10_000, 10_000).map(lambda hundredths: hundredths / 100)
accuracies = st.lists(number, min_size=2, max_size=8)
pairs = st.lists(st.tuples(number, number), min_size=2, max_size=8)


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> Iterator[None]:
    """statsmodels collects garbage in every call of Holm's procedure, among all that was imported."""
    gc.freeze()
    yield
    gc.unfreeze()


def split(values: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [one for one, _ in values], [other for _, other in values]


def test_a_mean_of_a_textbook_has_its_interval() -> None:
    """NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2: heat flow meters, ZARR13.DAT."""
    found = Estimate(9.261460, 0.02278881 / math.sqrt(195), 194, 195).interval(0.95)
    assert (found.low, found.high) == pytest.approx((9.258242, 9.264679), abs=1e-6)


def test_an_interval_by_hand() -> None:
    found = mean_interval([1.0, 2.0, 3.0])  # t(.975, 2) = 4.302653, sd 1
    assert (found.mean, found.n) == (2.0, 3)
    assert found.high - found.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_students_patients_paired() -> None:
    """As R's t.test prints it: t = -4.0621, df = 9, p-value = 0.002833."""
    found = of_difference(*SLEEP, paired=True)
    interval = found.interval(0.95)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((-1.58, -2.4598858, -0.7001142), abs=1e-7)
    assert (found.mean / found.error, found.df) == pytest.approx((-4.0621, 9), abs=5e-5)
    assert 2 * found.p_below(0) == pytest.approx(0.002833, abs=5e-7)


def test_students_patients_as_two_groups_by_welch() -> None:
    """As R's t.test prints it: t = -1.8608, df = 17.776, p-value = 0.07939."""
    found = of_difference(*SLEEP, paired=False)
    interval = found.interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((-3.3654832, 0.2054832), abs=1e-7)
    assert found.mean / found.error == pytest.approx(-1.8608, abs=5e-5)
    assert found.df == pytest.approx(17.776, abs=5e-4)
    assert 2 * found.p_below(0) == pytest.approx(0.07939, abs=5e-6)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.9875])
def test_intervals_are_scipys(level: float) -> None:
    first, second = [80.0, 81.5, 79.2, 80.4, 83.0], [78.8, 79.9, 80.1, 79.0, 79.3]
    for found, expected in (
        (of_mean(first), stats.ttest_1samp(first, 0)),
        (of_difference(first, second, paired=True), stats.ttest_rel(first, second)),
        (of_difference(first, second, paired=False), stats.ttest_ind(first, second, equal_var=False)),
    ):
        interval, theirs = found.interval(level), expected.confidence_interval(level)
        assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
        assert found.df == pytest.approx(expected.df)
        assert 2 * min(found.p_above(0), found.p_below(0)) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("bound", [-1.0, 0.0, 0.4, 2.0])
def test_one_sided_p_is_scipys(bound: float) -> None:
    values = [0.3, 0.9, -0.2, 0.6]
    found = of_mean(values)
    assert found.p_above(bound) == pytest.approx(stats.ttest_1samp(values, bound, alternative="greater").pvalue)
    assert found.p_below(bound) == pytest.approx(stats.ttest_1samp(values, bound, alternative="less").pvalue)


def test_two_groups_of_different_size_are_compared_unpaired_only() -> None:
    first, second = [1.0, 2.0, 4.0], [0.0, 1.0]
    found = of_difference(first, second, paired=False)
    assert found.error == pytest.approx(math.sqrt(np.var(first, ddof=1) / 3 + np.var(second, ddof=1) / 2))
    assert (found.n, found.paired) == (2, False)
    assert found.df == pytest.approx(stats.ttest_ind(first, second, equal_var=False).df)
    with pytest.raises(ValueError, match="zip"):
        of_difference(first, second, paired=True)


def test_one_seed_or_none_has_a_mean_at_most() -> None:
    for values, mean in (([], math.nan), ([5.0], 5.0)):
        found = of_mean(values)
        assert found.mean == pytest.approx(mean, nan_ok=True)
        assert math.isnan(found.error)
        assert math.isnan(found.interval(0.95).low)
        assert (found.p_above(-1e9), found.p_below(1e9)) == (1.0, 1.0)


def test_one_seed_an_arm_is_a_difference_without_an_interval() -> None:
    found = of_difference([3.0], [1.0], paired=False)
    assert (found.mean, found.n) == (2.0, 1)
    assert math.isnan(found.interval(0.95).high)


@pytest.mark.parametrize("value", [1.85, 80.1, 0.1])
def test_numbers_that_are_all_the_same_have_no_error(value: float) -> None:
    """Floating point leaves 2e-16 of some of them."""
    assert of_mean([value] * 3).error == of_mean([value] * 7).error == 0
    assert of_difference([value] * 3, [value + 1] * 3, paired=False).error == 0


def test_where_nothing_varies_only_no_difference_at_all_is_evidence() -> None:
    """Of a small test set, a few equal differences are chance; arms that are equal everywhere are one computation."""
    found = of_difference([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], paired=False)
    assert found.interval(0.99).low == found.interval(0.99).high == 1.0
    assert (found.p_above(0.5), found.p_above(1.0), found.p_below(1.0), found.p_below(1.5)) == (1.0, 1.0, 1.0, 1.0)
    same = of_difference([2.0, 2.5, 2.0], [2.0, 2.5, 2.0], paired=False)
    assert (same.p_above(-0.5), same.p_above(0.0), same.p_below(0.0), same.p_below(0.5)) == (0.0, 1.0, 1.0, 0.0)


def test_welch_is_student_where_arms_vary_alike() -> None:
    found = of_difference([1.0, 2.0, 3.0], [11.0, 12.0, 13.0], paired=False)
    assert found.df == pytest.approx(4)


@given(accuracies, st.floats(0.5, 0.999))
def test_an_interval_holds_its_mean(values: list[float], level: float) -> None:
    found = mean_interval(values, level)
    assert found.low <= found.mean <= found.high
    assert found.n == len(values)


@given(pairs, st.booleans(), st.floats(0.5, 0.99), st.floats(0.5, 0.99))
def test_a_higher_level_is_a_wider_interval(
    values: list[tuple[float, float]], paired: bool, one: float, other: float
) -> None:
    found = of_difference(*split(values), paired)
    assume(found.error > 0 and abs(one - other) > 1e-6)
    narrow, wide = found.interval(min(one, other)), found.interval(max(one, other))
    assert wide.low < narrow.low <= narrow.high < wide.high


@given(pairs, st.booleans())
def test_swapping_arms_mirrors_the_estimate(values: list[tuple[float, float]], paired: bool) -> None:
    first, second = split(values)
    found, swapped = of_difference(first, second, paired), of_difference(second, first, paired)
    assert swapped.mean == pytest.approx(-found.mean)
    assert (swapped.error, swapped.df) == pytest.approx((found.error, found.df))
    assert swapped.p_above(0.3) == pytest.approx(found.p_below(-0.3), abs=1e-12)


@given(pairs, st.booleans(), number)
def test_what_both_arms_gain_changes_nothing(values: list[tuple[float, float]], paired: bool, gain: float) -> None:
    first, second = split(values)
    found = of_difference(first, second, paired)
    moved = of_difference([one + gain for one in first], [one + gain for one in second], paired)
    assert (moved.mean, moved.error) == pytest.approx((found.mean, found.error), abs=1e-9)


@given(accuracies, number, st.floats(0.001, 0.4))
def test_what_is_rejected_lies_outside_the_interval(values: list[float], bound: float, p: float) -> None:
    found = of_mean(values)
    assume(found.error > 0 and abs(found.p_above(bound) - p) > 1e-9)
    assert (found.p_above(bound) < p) == (found.interval(1 - 2 * p).low > bound)
    assert (found.p_below(bound) < p) == (found.interval(1 - 2 * p).high < bound) or abs(
        found.p_below(bound) - p
    ) < 1e-9


def test_hollanders_runners_are_seeds_and_his_players_arms() -> None:
    """R prints chi-squared = 11.143, df = 2, p-value = 0.003805."""
    found = seed_effect(pd.DataFrame(ROUNDING.T))
    assert (found.seeds, found.arms, found.paired) == (3, 22, True)
    assert found.p == pytest.approx(0.003805, abs=5e-7)


def test_the_correlation_is_the_mean_over_pairs_of_arms() -> None:
    arms = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [1.0, 3.0, 2.0], "c": [3.0, 2.0, 1.0]})
    assert seed_effect(arms).correlation == pytest.approx((0.5 - 1 - 0.5) / 3)


def test_seeds_that_rank_alike_everywhere_are_paired_however_much_arms_vary() -> None:
    order = np.array([0.0, 2.0, 1.0, 3.0])
    found = seed_effect(pd.DataFrame({scale: 80 + scale * order for scale in (0.01, 1.0, 10.0)}))
    assert found.correlation == pytest.approx(1)
    # By hand: chi-squared = arms (seeds - 1) = 9, three degrees of freedom.
    assert found.p == pytest.approx(stats.chi2.sf(9, 3))
    assert found.paired


@given(
    st.lists(st.lists(number, min_size=4, max_size=4), min_size=3, max_size=6), st.lists(number, min_size=4, max_size=4)
)
def test_pairing_does_not_look_at_differences_between_arms(rows: list[list[float]], gains: list[float]) -> None:
    table = pd.DataFrame(rows)
    assume((table.std() > 0.01).all())
    found, moved = seed_effect(table), seed_effect(table + [round(gain) for gain in gains])
    assert moved.p == pytest.approx(found.p, nan_ok=True)
    assert moved.correlation == pytest.approx(found.correlation, nan_ok=True)


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0], "c": [1.0, 2.0]}),
        pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]}),
        pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [5.0, 5.0, 5.0]}),
        pd.DataFrame(index=range(3)),
    ],
    ids=["two seeds", "one arm", "one arm that varies", "no arm"],
)
def test_too_little_to_know_is_not_paired(table: pd.DataFrame) -> None:
    found = seed_effect(table)
    assert math.isnan(found.p)
    assert math.isnan(found.correlation)
    assert not found.paired


def test_holms_levels_of_a_known_example() -> None:
    """p = .01, .04, .03, .005 at 5 %: the first and the last are rejected (Wikipedia, "Holm-Bonferroni method")."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([1 - 0.05 / 3, 1 - 0.05 / 2, 1 - 0.05 / 2, 1 - 0.05 / 4])


@pytest.mark.parametrize(
    ("p", "hypotheses_left"),
    [([], []), ([0.9], [1]), ([0.001, 0.001, 0.001], [3, 2, 1]), ([0.02, 0.02, 0.02], [3, 3, 3]),
     ([1.0, 0.04], [2, 2]), ([1.0, 0.001], [1, 2])],
)  # fmt: skip
def test_holms_levels(p: list[float], hypotheses_left: list[int]) -> None:
    assert holm(p) == pytest.approx([1 - ALPHA / left for left in hypotheses_left])


@given(st.lists(st.sampled_from([0.0, 0.001, 0.004, 0.006, 0.01, 0.012, 0.02, 0.03, 0.2, 1.0]), min_size=1, max_size=9))
def test_intervals_at_holms_levels_exclude_what_holm_rejects(p: list[float]) -> None:
    rejected = multipletests(p, alpha=ALPHA, method="holm")[0]
    levels = holm(p)
    for one, level, expected in zip(p, levels, rejected, strict=True):
        assume(abs(one - (1 - level)) > 1e-12)
        assert (one < 1 - level) == expected
    assert min(levels) >= 1 - ALPHA - 1e-12
    assert max(levels) <= 1 - ALPHA / len(p) + 1e-12


def test_holms_levels_do_not_depend_on_the_order_of_claims() -> None:
    p = [0.3, 0.001, 0.014, 0.02]
    by_p = dict(zip(p, holm(p), strict=True))
    for order in ([3, 1, 0, 2], [2, 3, 1, 0]):
        shuffled = [p[index] for index in order]
        assert holm(shuffled) == [by_p[one] for one in shuffled]


@pytest.mark.parametrize(
    ("size", "paired", "seeds"), [(0.5, False, 64), (0.8, False, 26), (0.5, True, 34), (0.8, True, 15)]
)
def test_the_seeds_for_cohens_effects(size: float, paired: bool, seeds: int) -> None:
    """Two groups: 64 and 26 each (Cohen 1988, table 2.3.5 and 2.4.1, power .80 at .05 two-sided); pairs: G*Power's 34
    and 15."""
    error = 1 / math.sqrt(4) if paired else math.sqrt(2 / 4)  # of four seeds with a standard deviation of 1
    assert seeds_needed(Estimate(size, error, 3, 4, paired), size, 0.95) == seeds


def test_a_narrower_family_asks_for_more_seeds() -> None:
    estimate = of_mean([0.2, 1.4, 0.9, -0.3])
    usual, of_four = (seeds_needed(estimate, estimate.mean, level) for level in (0.95, 0.9875))
    assert usual is not None
    assert of_four is not None
    assert of_four > usual > 4


def test_more_are_asked_for_than_there_are() -> None:
    assert seeds_needed(of_mean([0.9, 1.0, 1.1]), 1.0, 0.95) == 4


def test_more_seeds_than_are_worth_a_number() -> None:
    estimate = of_mean([1.0, -1.0, 0.5, -0.5])
    assert seeds_needed(estimate, 0.01, 0.95) is None
    assert seeds_needed(estimate, 0.0, 0.95) is None
    # Cohen's formula, (1.96 + .84)^2 sd^2 / d^2, is within two seeds of the exact one here.
    barely = 2.8016 * np.std([1.0, -1.0, 0.5, -0.5], ddof=1) / math.sqrt(MOST_SEEDS - 3)
    assert MOST_SEEDS - 3 <= (seeds_needed(estimate, barely, 0.95) or 0) <= MOST_SEEDS


def test_no_number_of_seeds_decides_what_is_exactly_at_the_bound() -> None:
    assert seeds_needed(of_mean([1.0, 1.0, 1.0]), 0.0, 0.95) is None


def test_a_prediction_by_hand() -> None:
    found = prediction([1.0, 2.0, 3.0])
    half = 4.302653 * math.sqrt(1 + 1 / 3)
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2 - half, 2 + half), rel=1e-6)
    assert found.n == 3


@given(accuracies)
def test_a_prediction_is_a_regressions_on_a_constant_and_wider_than_the_means_interval(values: list[float]) -> None:
    assume(np.std(values) > 0)
    found, mean = prediction(values), mean_interval(values)
    frame = OLS(values, np.ones(len(values))).fit().get_prediction([1.0]).summary_frame(alpha=0.05)
    theirs = float(frame["obs_ci_lower"].iloc[0]), float(frame["obs_ci_upper"].iloc[0])
    assert (found.low, found.high) == pytest.approx(theirs)
    factor = math.sqrt(1 + len(values))  # sqrt(1 + 1/n) over sqrt(1/n)
    assert found.high - found.mean == pytest.approx(factor * (mean.high - mean.mean), rel=1e-6)


def test_one_run_predicts_nothing() -> None:
    assert math.isnan(prediction([50.0]).low)
    assert prediction([]).n == 0
