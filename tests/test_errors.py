"""User errors: their key gets longer on its way up, and becomes a place once."""

from __future__ import annotations

import pytest

from harness.errors import UserError, below, located


@pytest.mark.parametrize(
    ("outer", "inner", "key"),
    [("claims[0]", "arms", "claims[0].arms"), ("zip", "[1]", "zip[1]"), ("axes.lr", "", "axes.lr"), ("", "lr", "lr")],
)
def test_keys_are_joined(outer: str, inner: str, key: str) -> None:
    with pytest.raises(UserError) as caught, below(outer):
        raise UserError("it is wrong", key=inner)
    assert caught.value.key == key


def test_a_place_is_found_by_the_whole_key() -> None:
    with pytest.raises(UserError) as caught, located(lambda key: f"x.yaml:7: {key}"), below("axes"):
        raise UserError("it is wrong", key="lr", allowed="a number")
    assert str(caught.value) == "x.yaml:7: axes.lr: it is wrong\n  allowed: a number"


def test_a_place_that_is_known_stays() -> None:
    with pytest.raises(UserError) as caught, located(lambda key: "elsewhere"), below("axes"):
        raise UserError("it is wrong", where="x.yaml:3")
    assert caught.value.where == "x.yaml:3"
