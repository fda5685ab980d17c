"""Gradients equal central differences of the float64 oracles, in which what is stopped is held fixed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.ssl.losses import FUNCTIONS
from tests.support import oracles
from tests.support.loss_cases import (
    NAMES,
    OF_PAIRS,
    PAIRS,
    averages,
    defaults,
    free_views,
    gradients,
    kinds_of_pairs,
    loss_of,
    stored_state,
    unit_views,
    views_of,
)

N, D, SEED = 5, 4, 21  # a seed whose embeddings lie off the kinks
STEP = 1e-4

#: Parameters that choose another branch than the defaults do.
BRANCHES: list[tuple[str, dict[str, Any]]] = [
    ("dclw", {"detach_weights": False}),
    ("eqco", {"alpha": 3.0}),
    ("simclr_sq", {"square_positive": False}),
    ("simclr_abs", {"abs_positive": False}),
    ("dcl_sq", {"square_positive": False}),
    ("dcl_abs", {"abs_positive": False}),
    ("sogclr", {"gamma": 0.3}),
    ("sogclr", {"gamma": 1.0}),
    ("spectral", {"mu": 4.0}),
    ("vicreg_ctr", {"unit_norm": True}),
    *((name, {"temperature": 0.7}) for name in NAMES if "temperature" in defaults(name)),
]


def central_differences(function: oracles.Scalar, z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    """Both views' gradients by the five-point stencil, whose error is of the order STEP^4."""

    def moved(view: int, i: int, j: int, steps: int) -> float:
        views = [z1.clone(), z2.clone()]
        views[view][i, j] += steps * STEP
        return function(views[0].tolist(), views[1].tolist())

    found = torch.zeros(2, *z1.shape, dtype=torch.float64)
    for view, i, j in torch.cartesian_prod(*map(torch.arange, found.shape)).tolist():
        near = moved(view, i, j, 1) - moved(view, i, j, -1)
        far = moved(view, i, j, 2) - moved(view, i, j, -2)
        found[view, i, j] = (8 * near - far) / (12 * STEP)
    return found[0], found[1]


def assert_gradients(name: str, given: dict[str, Any], in_the_oracle: dict[str, Any]) -> None:
    z1, z2 = views_of(name, N, D, SEED)
    surrogate = oracles.surrogate(name, z1.tolist(), z2.tolist(), **defaults(name, **in_the_oracle))
    measured = gradients(loss_of(name, N, **given), z1, z2)
    for gradient, difference in zip(measured, central_differences(surrogate, z1, z2), strict=True):
        torch.testing.assert_close(gradient, difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "branch"), [*((name, {}) for name in NAMES), *BRANCHES], ids=str)
def test_gradients_equal_central_differences(name: str, branch: dict[str, Any]) -> None:
    stored = {key: value.tolist() for key, value in stored_state(name, N).items()}
    assert_gradients(name, branch, branch | stored)


@pytest.mark.parametrize("kind", PAIRS[1:])
@pytest.mark.parametrize("name", OF_PAIRS)
def test_gradients_equal_central_differences_on_other_pairs(name: str, kind: str) -> None:
    pairs, compared = kinds_of_pairs(kind, N, D, SEED)
    assert_gradients(name, {"pairs": pairs}, {"pairs": compared})


def test_the_examples_are_off_the_kinks_and_on_both_sides_of_them() -> None:
    anchors = torch.cat(unit_views(N, D, SEED))
    queue = kinds_of_pairs("queued", N, D, SEED)[0].keywords["queue"]  # type: ignore[attr-defined]
    cosines = anchors @ torch.cat([anchors, queue]).T
    for margins in (
        cosines,  # abs at 0
        *(1 - z.std(dim) for z in free_views(N, D, SEED) for dim in (0, 1)),  # the hinge, of dimensions and of samples
        *(z.norm(dim=1) - mu**0.5 for z in free_views(N, D, SEED) for mu in (1, 4)),  # the clipped norm
    ):
        assert float(margins.abs().min()) > 10 * STEP
        assert float(margins.min()) < 0 < float(margins.max())


def test_nothing_flows_into_sogclrs_stored_averages() -> None:
    z1, z2 = (z.requires_grad_() for z in unit_views(N, D, SEED))
    _, stored = FUNCTIONS["sogclr"](z1, z2, log_u=averages(N), **defaults("sogclr"))
    assert not stored.requires_grad
