"""Every loss has the value of its loop-by-loop float64 oracle, which shares no code with it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.catalog.losses import LOSSES
from harness.ssl.losses import FUNCTIONS
from tests.support import oracles
from tests.support.loss_cases import NAMES, OF_PAIRS, PAIRS, averages, kinds_of_pairs, parameters_of, shapes, views_of

Shape = tuple[int, int, int]


def test_every_loss_has_an_oracle() -> None:
    assert sorted(oracles.VALUES) == NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if LOSSES[name].state is None])
@settings(max_examples=40, deadline=None)
@given(data=st.data(), shape=shapes)
def test_values_equal_the_oracles(name: str, data: st.DataObject, shape: Shape) -> None:
    z1, z2 = views_of(name, *shape)
    parameters = data.draw(parameters_of(name))
    expected = oracles.VALUES[name](z1.tolist(), z2.tolist(), **parameters)
    assert float(FUNCTIONS[name](z1, z2, **parameters)) == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("kind", [kind for kind in PAIRS if kind != "two_views"])
@pytest.mark.parametrize("name", OF_PAIRS)
@settings(max_examples=15, deadline=None)
@given(data=st.data(), shape=shapes)
def test_values_equal_the_oracles_on_other_pairs(name: str, kind: str, data: st.DataObject, shape: Shape) -> None:
    z1, z2 = views_of(name, *shape)
    pairs, compared = kinds_of_pairs(kind, *shape)
    parameters = data.draw(parameters_of(name))
    expected = oracles.VALUES[name](z1.tolist(), z2.tolist(), pairs=compared, **parameters)
    value = FUNCTIONS[name](z1, z2, pairs=pairs, **parameters)
    assert float(value) == pytest.approx(expected, rel=1e-10, abs=1e-10)


@settings(max_examples=60, deadline=None)
@given(parameters=parameters_of("sogclr"), shape=shapes)
def test_sogclrs_value_and_stored_averages_equal_the_oracles(parameters: dict[str, float], shape: Shape) -> None:
    z1, z2 = views_of("sogclr", *shape)
    log_u = averages(shape[0], shape[2])
    value, stored = FUNCTIONS["sogclr"](z1, z2, log_u=log_u, **parameters)
    expected, averaged = oracles.sogclr(z1.tolist(), z2.tolist(), log_u=log_u.tolist(), **parameters)
    assert float(value) == pytest.approx(expected, rel=1e-10, abs=1e-10)
    assert stored.tolist() == pytest.approx(averaged, rel=1e-10, abs=1e-10)


def test_sogclrs_averages_of_one_step_are_the_next_ones_past() -> None:
    # Two steps, not one from afar: u after them is gamma of the second and 1 - gamma of the first.
    parameters = {"temperature": 0.2, "gamma": 0.3}
    z1, z2 = views_of("sogclr", 5, 4)
    _, first = FUNCTIONS["sogclr"](z1, z2, log_u=torch.full((5,), -torch.inf), **parameters)
    _, second = FUNCTIONS["sogclr"](z2, z1.flip(0), log_u=first, **parameters)
    _, expected = oracles.sogclr(z1.tolist(), z2.tolist(), log_u=[-float("inf")] * 5, **parameters)
    _, expected = oracles.sogclr(z2.tolist(), z1.flip(0).tolist(), log_u=expected, **parameters)
    assert second.tolist() == pytest.approx(expected, rel=1e-10)
