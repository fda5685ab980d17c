"""Filters: what they match, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from harness.errors import UserError
from harness.filters import is_filter, parse

CELL: dict[str, Any] = {"loss.name": "dcl", "batch_size": 64, "loss.temperature": 0.1, "loss.alpha": None, "flag": True}
NAMES = {"loss": "loss.name", "temperature": "loss.temperature", "alpha": "loss.alpha"}


def matches(text: str) -> bool:
    return parse(text, lambda name: NAMES.get(name, name)).matches(CELL.__getitem__)


@pytest.mark.parametrize(
    "text",
    ["loss=dcl", "loss=infonce,dcl", "loss!=infonce", "batch_size<=64", "batch_size>=64 loss=dcl", "temperature=1e-1",
     "batch_size=64.0", "alpha!=16", "flag=true", "temperature<0.2 temperature>0.05"],
)  # fmt: skip
def test_all_conditions_hold(text: str) -> None:
    assert matches(text)


@pytest.mark.parametrize(
    "text", ["loss=infonce", "loss!=infonce,dcl", "batch_size<64", "loss=dcl batch_size>64", "alpha=16", "alpha<16",
             "alpha>=0", "flag=false", "loss=64", "loss<3"]
)  # fmt: skip
def test_one_condition_does_not_hold(text: str) -> None:
    assert not matches(text)


@pytest.mark.parametrize(
    "text", ["", "loss", "loss=", "=dcl", "loss==dcl", "batch_size<small", "batch_size<1,2", "a b"]
)
def test_what_is_no_filter_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError) as refused:
        matches(text)
    assert "batch_size<=64" in str(refused.value)


def test_names_are_not_taken_for_filters() -> None:
    assert is_filter("batch_size<=64")
    assert not is_filter("experiments/dcl_batchsize.yaml")


def test_numbers_of_a_table_are_in_order_like_others() -> None:
    condition = parse("batch_size>=256", str).conditions[0]
    assert [condition.holds(value) for value in numpy.array([64, 256, 512])] == [False, True, True]
    assert condition.holds(numpy.float64(256.0))
