"""What every measure makes of accuracies: contrasts, the range that makes the claim true, and what is said of it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import polynomial

from harness.manifest import Claim
from harness.study.claims.measures import MEASURES, MeasuredContrasts, TrueRange, margin_of

SIZES = [32, 64, 256]
#: Three seeds, three batch sizes: from 256 to 32, a loses 2, 2 and 5, b 1 each.
A = pd.DataFrame([[78.0, 79.0, 80.0], [77.0, 80.0, 79.0], [76.0, 78.0, 81.0]], columns=SIZES)
B = pd.DataFrame([[80.0, 80.5, 81.0], [79.0, 79.5, 80.0], [81.0, 81.5, 82.0]], columns=SIZES)

tables = st.lists(st.lists(st.integers(3000, 9500).map(lambda part: part / 100), min_size=3, max_size=3), min_size=3,
                  max_size=5).map(lambda rows: pd.DataFrame(rows, columns=SIZES))  # fmt: skip


def measure(name: str, margin: float | None = None, **arms: pd.DataFrame) -> MeasuredContrasts:
    over = "batch_size" if MEASURES[name].along else ""
    claim = Claim("a", "b", "c", name, list(arms), over=over, margin=margin)
    return MEASURES[name].function(claim, arms, margin_of(claim))


def values(measured: MeasuredContrasts) -> list[list[float]]:
    return [list(one.first if one.second is None else one.first - one.second) for one in measured.contrasts]


def at(table: pd.DataFrame, size: int) -> pd.DataFrame:
    return table[[size]]


def is_true(measured: MeasuredContrasts) -> bool:
    """Of the means, as if they were known."""
    return all(measured.true.low < np.mean(one) < measured.true.high for one in values(measured))


def test_a_difference_is_the_first_arm_less_the_second() -> None:
    found = measure("difference", DCL=at(B, 32), InfoNCE=at(A, 32))
    assert values(found) == [[2.0, 2.0, 5.0]]
    assert found.true == TrueRange(0, math.inf)
    assert found.contrasts[0].label == "DCL − InfoNCE"
    assert found.summary == "DCL has 80.00 and InfoNCE has 77.00"
    assert measure("difference", 1.5, DCL=at(B, 32), InfoNCE=at(A, 32)).true == TrueRange(1.5, math.inf)


def test_an_equality_has_two_ends() -> None:
    found = measure("equality", 0.5, a=at(A, 32), b=at(B, 32))
    assert values(found) == [[-2.0, -2.0, -5.0]]
    assert found.true == TrueRange(-0.5, 0.5)


def test_a_ratio_is_geometric() -> None:
    found = measure("ratio", 1.02, b=at(B, 32), a=at(A, 32))
    assert values(found)[0] == pytest.approx([math.log(80 / 78), math.log(79 / 77), math.log(81 / 76)])
    assert found.true == TrueRange(math.log(1.02), math.inf)
    assert found.scale(np.mean(values(found))) == pytest.approx((80 / 78 * 79 / 77 * 81 / 76) ** (1 / 3))
    assert found.contrasts[0].label == "b / a"
    assert measure("ratio", b=at(B, 32), a=at(A, 32)).true == TrueRange(0, math.inf), "more than the same"


def test_an_ordering_compares_neighbours() -> None:
    found = measure("ordering", 0.5, b=at(B, 256), a=at(A, 256), c=at(A, 32))
    assert values(found) == [[1.0, 1.0, 1.0], [2.0, 2.0, 5.0]]
    assert [one.label for one in found.contrasts] == ["b − a", "a − c"]
    assert found.true == TrueRange(0.5, math.inf)


def test_an_arm_drops_from_the_largest_value_to_the_smallest() -> None:
    found = measure("drop", 2.0, a=A)
    assert values(found) == [[2.0, 2.0, 5.0]]
    assert found.true == TrueRange(-math.inf, 2.0)
    assert found.summary == "from batch size 256 to 32, a changes by −3.00 points"


def test_of_two_arms_the_first_drops_less_where_the_second_drops_more() -> None:
    found = measure("drop", b=B, a=A)
    assert values(found) == [[1.0, 1.0, 4.0]]
    assert found.true == TrueRange(0, math.inf)
    assert is_true(found)
    assert not is_true(measure("drop", a=A, b=B))


def test_no_value_may_be_better_than_the_smallest_by_the_margin() -> None:
    best_between = A.assign(**{"64": [81.0, 82.0, 81.0]}).rename(columns={"64": 128})[[32, 64, 128, 256]]
    found = measure("drop_from_best", 5.0, a=best_between)
    assert [one.label for one in found.contrasts] == [
        "batch size 64 − 32",
        "batch size 128 − 32",
        "batch size 256 − 32",
    ]
    assert values(found)[1] == [3.0, 5.0, 5.0]
    assert found.true == TrueRange(-math.inf, 5.0)
    # Of the third seed, the other two are best at 128, too; of the mean loss, each seed's is from there.
    assert found.summary == "down to batch size 32, a is best at 128 and changes by −4.33 points from there"


def test_a_spread_is_every_pair() -> None:
    found = measure("spread", 2.0, b=B)
    assert values(found) == [[-0.5] * 3, [-1.0] * 3, [-0.5] * 3]
    assert found.true == TrueRange(-2.0, 2.0)
    assert [one.label for one in found.contrasts] == [
        "batch size 32 − 64",
        "batch size 32 − 256",
        "batch size 64 − 256",
    ]
    assert found.summary == "b has 80.00 at 32, 80.50 at 64, 81.00 at 256 along batch size"


def test_a_slope_is_per_doubling() -> None:
    """a at 32, 64, 256 is at doublings 0, 1, 3 (mean 4/3): weights -4/14, -1/14, 5/14."""
    found = measure("slope", 1.0, a=A)
    by_hand = [(-4 * low - middle + 5 * high) / 14 for low, middle, high in A.to_numpy()]
    assert values(found)[0] == pytest.approx(by_hand)
    assert found.true == TrueRange(-1.0, 1.0)


def test_of_two_arms_the_first_ones_slope_is_smaller() -> None:
    found = measure("slope", b=B, a=A)
    slopes = [measure("slope", 1.0, x=table) for table in (A, B)]
    assert values(found)[0] == pytest.approx(np.subtract(values(slopes[0])[0], values(slopes[1])[0]))
    assert found.true == TrueRange(0, math.inf)
    assert is_true(found)


@given(tables)
def test_a_slope_is_that_of_least_squares(table: pd.DataFrame) -> None:
    expected = [polynomial.polyfit(np.log2(SIZES), row, 1)[1] for row in table.to_numpy()]
    assert values(measure("slope", 1.0, a=table))[0] == pytest.approx(expected, abs=1e-9)


@given(tables, st.sampled_from([0.5, 5.0, 60.0]))
def test_a_spread_is_true_where_the_largest_mean_is_near_the_smallest(table: pd.DataFrame, margin: float) -> None:
    width = table.mean().max() - table.mean().min()
    if abs(width - margin) > 1e-9:
        assert is_true(measure("spread", margin, a=table)) == (width < margin)


@given(tables)
def test_the_drop_from_the_best_value_is_true_where_no_mean_is_far_above_that_of_the_smallest(
    table: pd.DataFrame,
) -> None:
    furthest = (table.mean() - table.mean().iloc[0]).iloc[1:].max()
    if abs(furthest - 1.0) > 1e-9:
        assert is_true(measure("drop_from_best", 1.0, a=table)) == (furthest < 1.0)
