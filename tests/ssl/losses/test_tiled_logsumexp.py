"""Sums in tiles are the sums over the whole matrix: value, gradient, digits; only the memory is another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.catalog.losses import LOSSES
from harness.ssl.losses import tiled_logsumexp
from harness.ssl.losses.tiled_logsumexp import ABSOLUTE, SQUARE, Map
from harness.ssl.losses.validation import skip_value_checks
from harness.ssl.measure.step_cost import LiveTensorBytes
from tests.support.loss_cases import (
    NAMES,
    OF_PAIRS,
    PAIRS,
    SAMPLE_CONTRASTIVE,
    gradients,
    in_full,
    kinds_of_pairs,
    loss_of,
    unit_views,
    views_of,
)

EXACT = {"rtol": 1e-10, "atol": 1e-10}
IN_TILES = [name for name in NAMES if name in OF_PAIRS or name in ("sogclr", "vicreg_exp", "vicreg_ctr")]
shapes = st.tuples(st.integers(2, 40), st.integers(2, 8), st.integers(0, 99))


@contextmanager
def tiles_of(side: int) -> Iterator[None]:
    with mock.patch.object(tiled_logsumexp, "TILE", side):
        yield


def whole(x: Tensor, y: Tensor | None, excluded: tuple[int, ...], function: Map | None) -> Tensor:
    """log_sums by autograd, of a matrix that exists."""
    products = x @ (x if y is None else y).T
    terms = products if function is None else function.of(products)
    mask = torch.zeros(terms.shape, dtype=torch.bool)
    for offset in excluded:
        mask.diagonal(offset).fill_(True)
    return terms.masked_fill(mask, -torch.inf).logsumexp(1)


@pytest.mark.e2e
@pytest.mark.parametrize("function", [None, SQUARE, ABSOLUTE], ids=["cosine", "square", "absolute"])
@settings(max_examples=40, deadline=None)
@given(
    shape=shapes, candidates=st.integers(4, 60), side=st.integers(1, 20), temperature=st.sampled_from([0.01, 0.1, 10.0])
)
def test_sums_and_gradients_do_not_depend_on_the_tiles(
    function: Map | None, shape: tuple[int, int, int], candidates: int, side: int, temperature: float
) -> None:
    n, d, seed = shape
    scale = temperature ** (-0.5 / (1 if function is None else function.degree))
    z1, z2 = (scale * z for z in unit_views(n, d, seed))
    queue = scale * unit_views(candidates, d, seed)[1]
    both = torch.cat([z1, z2])
    for x, y, excluded in ((z1, z2, (0,)), (both, None, (0, n, -n)), (z1, queue, ()), (queue, z1, ())):
        inputs = [z.clone().requires_grad_() for z in (x, y) if z is not None]
        upstream = torch.linspace(-1, 1, len(x), dtype=x.dtype)
        with tiles_of(side):
            sums = tiled_logsumexp.log_sums(*inputs, excluded=excluded, function=function)
            found = torch.autograd.grad(sums, inputs, upstream)
        expected = whole(inputs[0], None if y is None else inputs[1], excluded, function)
        torch.testing.assert_close(sums, expected, **EXACT)
        torch.testing.assert_close(found, torch.autograd.grad(expected, inputs, upstream), **EXACT)


@pytest.mark.e2e
@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("name", OF_PAIRS)
@settings(max_examples=10, deadline=None)
@given(shape=shapes, side=st.integers(1, 20), temperature=st.sampled_from([0.01, 0.1, 10.0]), repeated=st.booleans())
def test_losses_in_tiles_are_those_of_whole_matrices(
    name: str, kind: str, shape: tuple[int, int, int], side: int, temperature: float, repeated: bool
) -> None:
    n, d, seed = shape
    z1, z2 = unit_views(n, d, seed)
    if repeated:  # every sample twice or more, and both views equal
        z1 = z2 = z1[torch.arange(n) // 2]
    plain = loss_of(name, n, temperature=temperature, pairs=in_full(kind, *shape))
    tiled = loss_of(name, n, temperature=temperature, pairs=kinds_of_pairs(kind, *shape)[0])
    with tiles_of(side):
        value, found = tiled(z1, z2), gradients(tiled, z1, z2)
    torch.testing.assert_close(value, plain(z1, z2), **EXACT)
    torch.testing.assert_close(found, gradients(plain, z1, z2), **EXACT)


@pytest.mark.parametrize("name", IN_TILES)
def test_no_loss_depends_on_the_tiles(name: str) -> None:
    z1, z2 = views_of(name, 13, 7)
    loss = loss_of(name, 13)
    with tiles_of(3):
        value, found = loss(z1, z2), gradients(loss, z1, z2)
    torch.testing.assert_close(value, loss(z1, z2), **EXACT)
    torch.testing.assert_close(found, gradients(loss, z1, z2), **EXACT)


@pytest.mark.parametrize("kind", ["two_views", "cross_view", "queued"])
@pytest.mark.parametrize(
    ("name", "temperature"), [("dcl", 0.01), ("dcl", 0.1), ("dcl_sq", 0.1), ("infonce", 0.1), ("infonce", 1.0)]
)
def test_tiles_lose_no_digits(name: str, temperature: float, kind: str) -> None:
    n, d = 100, 64
    pairs = {"tiled": kinds_of_pairs(kind, n, d)[0], "plain": in_full(kind, n, d)}
    loss = {form: loss_of(name, n, temperature=temperature, pairs=those) for form, those in pairs.items()}
    squares = dict.fromkeys(loss, 0.0)
    for seed in range(10):
        views = [z.float() for z in unit_views(n, d, seed)]
        exact = torch.cat(gradients(loss["plain"], *(z.double() for z in views)))
        for form, one in loss.items():
            with tiles_of(32):
                error = torch.cat(gradients(one, *views)) - exact
            squares[form] += float((error.norm() / exact.norm()) ** 2)
    assert squares["tiled"] <= 1.2 * squares["plain"]


@pytest.mark.parametrize("side", [2, 512])
def test_gradients_have_gradients_whatever_the_tiles(side: int) -> None:
    x, y = (z.requires_grad_() for z in unit_views(5, 3))
    with tiles_of(side):
        for function in (None, SQUARE):
            assert torch.autograd.gradgradcheck(
                lambda a, f=function: tiled_logsumexp.log_sums(a, excluded=(0,), function=f), x
            )
            assert torch.autograd.gradgradcheck(
                lambda a, b, f=function: tiled_logsumexp.log_sums(a, b, excluded=(0,), function=f), (x, y)
            )


@pytest.mark.parametrize("side", [2, 512])
def test_a_side_without_gradient_gets_none(side: int) -> None:
    x, y = unit_views(5, 3)
    for one, other in ((x.clone().requires_grad_(), y), (x, y.clone().requires_grad_())):
        with tiles_of(side):
            tiled_logsumexp.log_sums(one, other).sum().backward()
        assert (one.grad is None) != (other.grad is None)


def peak_of(work: Callable[..., Any], *shapes: tuple[int, ...]) -> int:
    """Bytes, by shapes alone."""
    with FakeTensorMode(allow_non_fake_inputs=True), skip_value_checks(), LiveTensorBytes(lambda size: "all") as live:
        work(*(torch.empty(shape, requires_grad=True) for shape in shapes))
    return live.peak["all"]


@pytest.mark.parametrize("name", [name for name in SAMPLE_CONTRASTIVE if LOSSES[name].state is None])
def test_no_loss_makes_a_matrix_of_cosines(name: str) -> None:
    n = 2048
    peak = peak_of(partial(gradients, loss_of(name, n)), (n, 128), (n, 128))
    assert peak < 4 * n**2, "less than a matrix of one view's cosines"


@pytest.mark.parametrize("symmetric", [True, False])
def test_tiles_take_at_most_an_eighth_of_the_matrices_memory(symmetric: bool) -> None:
    def peak(sums: Callable[..., Tensor]) -> int:
        return peak_of(lambda x, y: sums(x, None if symmetric else y).sum().backward(), (4096, 128), (4096, 128))

    assert (
        peak(partial(tiled_logsumexp.log_sums, excluded=(0,))) < peak(partial(whole, excluded=(0,), function=None)) / 8
    )
