"""A mistake is refused before the equation begins, and the message names the argument."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.catalog.losses import LOSSES
from harness.catalog.parameters import Flag
from harness.errors import UserError
from harness.ssl.losses.validation import skip_value_checks
from tests.support.loss_cases import NAMES, OF_PAIRS, kinds_of_pairs, loss_of, unit_views

N, D = 6, 4


def spoilt(value: float) -> Tensor:
    z = unit_views(N, D)[0]
    z[3, 1] = value
    return z


GOOD = unit_views(N, D)[0]
BAD_EMBEDDINGS = {
    "one sample": (GOOD[:1], GOOD[:1], "z1: a batch of one"),
    "NaN": (GOOD, spoilt(torch.nan), "z2: row 3"),
    "infinity": (spoilt(torch.inf), GOOD, "z1: row 3"),
    "another batch": (GOOD, unit_views(N + 1, D)[0], "z2: .*shape"),
    "another dimension": (GOOD, unit_views(N, D + 1)[0], "z2: .*shape"),
    "one dimension": (GOOD[0], GOOD[0], r"z1: \(4,\)"),
    "three dimensions": (GOOD, GOOD[None], r"z2: \(1, 6, 4\)"),
    "integers": (GOOD, torch.ones(N, D, dtype=torch.long), "z2: .*int64"),
}


@pytest.mark.parametrize("mistake", BAD_EMBEDDINGS)
@pytest.mark.parametrize("name", NAMES)
def test_what_are_no_embeddings_is_refused(name: str, mistake: str) -> None:
    z1, z2, message = BAD_EMBEDDINGS[mistake]
    with pytest.raises(UserError, match=message):
        loss_of(name, N)(z1, z2)


def out_of_range() -> list[tuple[str, str, Any]]:
    """Below, above and beside every parameter's range, and what is no number."""
    found: list[tuple[str, str, Any]] = []
    for name in NAMES:
        for key, known in LOSSES[name].parameters.items():
            if isinstance(known, Flag):
                found += [(name, key, 1), (name, key, "yes")]
            else:
                found += [(name, key, known.low - 1), (name, key, float("nan")), (name, key, float("-inf"))]
                found += [(name, key, float("inf"))]
                found += [] if known.closed else [(name, key, known.low)]
    return found


@pytest.mark.parametrize(("name", "parameter", "value"), out_of_range())
def test_parameters_out_of_range_are_refused(name: str, parameter: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{parameter}: {name}: .* out of range"):
        loss_of(name, N, **{parameter: value})(*unit_views(N, D))


@pytest.mark.parametrize("name", [name for name in NAMES if LOSSES[name].unit_norm])
def test_a_refused_norm_comes_with_the_call_that_mends_it(name: str) -> None:
    z1, z2 = unit_views(N, D)
    with pytest.raises(UserError, match="normalize") as refused:
        loss_of(name, N)(z1, torch.where(torch.arange(N)[:, None] == 2, 0.9, 1.0) * z2)
    assert refused.value.where == "z2"
    assert "row 2 has norm 0.9" in refused.value.what


def test_a_queue_of_another_dimension_is_refused() -> None:
    pairs, _ = kinds_of_pairs("queued", N, D + 1)
    for name in OF_PAIRS:
        with pytest.raises(UserError, match="queue: "):
            loss_of(name, N, pairs=pairs)(*unit_views(N, D))


@pytest.mark.parametrize("name", NAMES)
def test_the_training_loop_may_have_its_values_trusted(name: str) -> None:
    z1, z2 = unit_views(N, D)
    with skip_value_checks():
        loss_of(name, N)(2 * z1, z2)
        with pytest.raises(UserError, match="z1"):  # shapes cost nothing to look at
            loss_of(name, N)(z1[:1], z2[:1])
    with pytest.raises(UserError, match="z1: row 3"):
        loss_of(name, N)(spoilt(torch.nan), z2)
