"""Losses against loop-by-loop float64 oracles that share no code with them, and against the papers' identities."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from harness.catalog import LOSSES
from harness.cell import Loss
from harness.ssl.losses import FUNCTIONS, bind
from harness.ssl.losses.dcl import dcl, dclw
from harness.ssl.losses.infonce import infonce
from harness.ssl.losses.similarity import positives_and_negatives

LossOfTwo = Callable[[Tensor, Tensor], Tensor]


def embeddings(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two views of n samples that resemble each other, in float64."""
    generator = torch.Generator().manual_seed(seed)
    base, *noise = torch.randn(3, n, d, generator=generator, dtype=torch.float64)
    return normalize(base + 0.7 * noise[0], dim=1), normalize(base + 0.7 * noise[1], dim=1)


def anchors(z1: Tensor, z2: Tensor, tau: float) -> list[tuple[float, list[float]]]:
    """(positive, negatives) of every anchor, pair by pair, over tau."""
    views = [[row.tolist() for row in z1], [row.tolist() for row in z2]]

    def cosine(a: list[float], b: list[float]) -> float:
        return math.fsum(x * y for x, y in zip(a, b, strict=True)) / tau

    found = []
    for k in (0, 1):
        for i, anchor in enumerate(views[k]):
            negatives = [cosine(anchor, views[m][j]) for m in (0, 1) for j in range(len(z1)) if j != i]
            found.append((cosine(anchor, views[1 - k][i]), negatives))
    return found


def log_sum_exp(values: list[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def infonce_oracle(z1: Tensor, z2: Tensor, tau: float) -> float:
    terms = [log_sum_exp([p, *n]) - p for p, n in anchors(z1, z2, tau)]
    return math.fsum(terms) / len(terms)


def dcl_oracle(z1: Tensor, z2: Tensor, tau: float) -> float:
    terms = [log_sum_exp(n) - p for p, n in anchors(z1, z2, tau)]
    return math.fsum(terms) / len(terms)


def dclw_oracle(z1: Tensor, z2: Tensor, tau: float, sigma: float) -> float:
    pairs = anchors(z1, z2, tau)
    cosines = [math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True)) for a, b in zip(z1, z2, strict=True)]
    mean = math.fsum(math.exp(c / sigma) for c in cosines) / len(cosines)
    weights = [2 - math.exp(c / sigma) / mean for c in cosines]
    terms = [log_sum_exp(n) - weights[i % len(cosines)] * p for i, (p, n) in enumerate(pairs)]
    return math.fsum(terms) / len(terms)


shapes = st.tuples(st.integers(2, 24), st.integers(2, 16), st.integers(0, 99))
temperatures = st.floats(0.005, 10)


@settings(max_examples=60, deadline=None)
@given(shapes, temperatures, st.floats(0.1, 5))
def test_values_equal_the_loop_by_loop_oracles(shape: tuple[int, int, int], tau: float, sigma: float) -> None:
    z1, z2 = embeddings(*shape)
    for value, oracle in (
        (infonce(z1, z2, temperature=tau), infonce_oracle(z1, z2, tau)),
        (dcl(z1, z2, temperature=tau), dcl_oracle(z1, z2, tau)),
        (dclw(z1, z2, temperature=tau, sigma=sigma), dclw_oracle(z1, z2, tau, sigma)),
    ):
        assert float(value) == pytest.approx(oracle, rel=1e-10, abs=1e-10)


def frozen_dclw(z1: Tensor, z2: Tensor) -> LossOfTwo:
    """DCLW with the weights of this point held fixed: what its gradient is the gradient of."""
    n = len(z1)
    weights = 2 - n * torch.softmax((z1 * z2).sum(1) / 0.5, dim=0)

    def surrogate(a: Tensor, b: Tensor) -> Tensor:
        p, negatives = positives_and_negatives(a, b, 0.2)
        return (negatives.logsumexp(1) - weights.repeat(2) * p).mean()

    return surrogate


@pytest.mark.parametrize("name", ["infonce", "dcl", "dclw"])
def test_gradients_equal_central_differences(name: str) -> None:
    z1, z2 = embeddings(5, 4)
    loss: LossOfTwo = bind(Loss(name, 0.2, 0.5 if name == "dclw" else None))
    surrogate = frozen_dclw(z1, z2) if name == "dclw" else loss
    z1.requires_grad_(), z2.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z1, z2), z1)
    step = 1e-5
    for i in range(5):
        for j in range(4):
            shift = torch.zeros_like(z1)
            shift[i, j] = step
            with torch.no_grad():
                difference = (surrogate(z1 + shift, z2) - surrogate(z1 - shift, z2)) / (2 * step)
            assert float(gradient[i, j]) == pytest.approx(float(difference), rel=1e-6, abs=1e-8)


def test_each_anchors_dcl_gradient_is_its_infonce_gradient_over_q() -> None:
    # q_i = 1 - softmax share of the positive, the NPC multiplier of Yeh et al., eq. 4: per anchor, not on average.
    z1, z2 = embeddings(6, 5)
    z1.requires_grad_()
    p, n = positives_and_negatives(z1, z2, 0.1)
    q = torch.sigmoid(n.logsumexp(1) - p)
    for i in range(12):
        (of_dcl,) = torch.autograd.grad(n[i].logsumexp(0) - p[i], z1, retain_graph=True)
        (of_infonce,) = torch.autograd.grad(torch.logaddexp(p[i], n[i].logsumexp(0)) - p[i], z1, retain_graph=True)
        torch.testing.assert_close(of_dcl, of_infonce / q[i].detach(), rtol=1e-9, atol=1e-12)


def test_infonce_exceeds_dcl_by_minus_log_q() -> None:
    z1, z2 = embeddings(6, 5)
    p, n = positives_and_negatives(z1, z2, 0.1)
    q = torch.sigmoid(n.logsumexp(1) - p)
    gap = infonce(z1, z2, temperature=0.1) - dcl(z1, z2, temperature=0.1)
    torch.testing.assert_close(gap, -torch.log(q).mean())


@pytest.mark.parametrize("n", [2, 7, 64])
def test_equal_embeddings_give_log_of_the_number_of_candidates(n: int) -> None:
    z = normalize(torch.ones(n, 3, dtype=torch.float64), dim=1)
    assert float(infonce(z, z, temperature=0.1)) == pytest.approx(math.log(2 * n - 1))
    assert float(dcl(z, z, temperature=0.1)) == pytest.approx(math.log(2 * n - 2))


@pytest.mark.parametrize("name", sorted(LOSSES))
@settings(max_examples=20, deadline=None)
@given(shape=shapes, tau=st.floats(0.05, 2))
def test_invariances(name: str, shape: tuple[int, int, int], tau: float) -> None:
    z1, z2 = embeddings(*shape)
    parameters = {"temperature": tau} | ({"sigma": 0.5} if name == "dclw" else {})
    loss = partial(FUNCTIONS[name], **parameters)
    generator = torch.Generator().manual_seed(1)
    order = torch.randperm(len(z1), generator=generator)
    rotation = torch.linalg.qr(torch.randn(shape[1], shape[1], dtype=torch.float64, generator=generator))[0]
    for other in (loss(z1[order], z2[order]), loss(z2, z1), loss(z1 @ rotation, z2 @ rotation)):
        torch.testing.assert_close(other, loss(z1, z2), rtol=1e-9, atol=1e-9)


def test_dclw_weights_have_mean_one() -> None:
    # Where all positives are equal every weight is 1, and DCLW is DCL.
    z1, z2 = embeddings(8, 4)
    torch.testing.assert_close(dclw(z1, z1, temperature=0.1, sigma=0.5), dcl(z1, z1, temperature=0.1))
    # The weighted positives' mean is DCL's minus the covariance of weight and positive.
    p, _ = positives_and_negatives(z1, z2, 0.1)
    w = 2 - 8 * torch.softmax((z1 * z2).sum(1) / 0.5, 0)
    assert float(w.mean()) == pytest.approx(1)
    gap = dcl(z1, z2, temperature=0.1) - dclw(z1, z2, temperature=0.1, sigma=0.5)
    torch.testing.assert_close(gap, ((w.repeat(2) - 1) * p).mean())


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tau", [0.005, 0.05, 1.0])
def test_half_precision_inputs_are_compared_in_fp32(name: str, dtype: torch.dtype, tau: float) -> None:
    z1, z2 = (view.to(dtype) for view in embeddings(32, 16))
    loss: LossOfTwo = bind(Loss(name, tau, 0.5 if name == "dclw" else None))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = loss(z1, z2)
    assert half.dtype == torch.float32
    exact = loss(z1.double(), z2.double())  # of the same rounded inputs
    assert float(half) == pytest.approx(float(exact), rel=1e-4, abs=1e-4)


def test_functions_and_catalogue_name_the_same_losses() -> None:
    assert set(FUNCTIONS) == set(LOSSES)
