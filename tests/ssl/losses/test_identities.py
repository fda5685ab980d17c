"""What the papers prove about their losses, on the losses as they are here."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from harness.ssl.losses import FUNCTIONS
from harness.ssl.losses.pairs import Similarities
from tests.support import oracles
from tests.support.loss_cases import (
    OF_PAIRS,
    PAIRS,
    anchors_of,
    defaults,
    gradients,
    kinds_of_pairs,
    loss_of,
    two_views_in_full,
    unit_views,
)

N, D = 6, 5
temperatures = st.floats(0.02, 2)


def of_anchor(a: int) -> Any:
    """Two views' pairs of one anchor alone: a mean over anchors of one anchor is its own loss."""

    def pairs(z1: Tensor, z2: Tensor) -> Similarities:
        return anchors_of(two_views_in_full(z1, z2), slice(a, a + 1))

    return pairs


def npc_multiplier(z1: Tensor, z2: Tensor, temperature: float) -> list[float]:
    """q_a = 1 - softmax share of the positive (Yeh et al., eq. 4)."""
    anchors = oracles.over(oracles.two_views(z1.tolist(), z2.tolist()), temperature)
    return [-math.expm1(p - oracles.log_sum_exp([p, *n])) for p, n in anchors]


def assert_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], rtol: float = 1e-11) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-13)


def alignment(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    return float(cosine_similarity(torch.cat(found).flatten(), torch.cat(expected).flatten(), dim=0))


@pytest.mark.parametrize("kind", PAIRS)
@settings(max_examples=10, deadline=None)
@given(temperature=temperatures, seed=st.integers(0, 99))
def test_flatnce_has_dcls_gradient_and_infonces_value(kind: str, temperature: float, seed: int) -> None:
    views = unit_views(N, D, seed)
    given = {"temperature": temperature, "pairs": kinds_of_pairs(kind, N, D)[0]}
    flatnce = loss_of("flatnce", N, **given)
    assert_same(gradients(flatnce, *views), gradients(loss_of("dcl", N, **given), *views))
    assert float(flatnce(*views)) == pytest.approx(float(loss_of("infonce", N, **given)(*views)), rel=1e-11)


@settings(max_examples=10, deadline=None)
@given(temperature=temperatures, seed=st.integers(0, 99))
def test_each_anchors_dcl_gradient_is_its_infonce_gradient_over_q(temperature: float, seed: int) -> None:
    views = unit_views(N, D, seed)
    for a, q in enumerate(npc_multiplier(*views, temperature)):
        given = {"temperature": temperature, "pairs": of_anchor(a)}
        infonce = gradients(loss_of("infonce", N, **given), *views)
        dcl = gradients(loss_of("dcl", N, **given), *views)
        # Where q is small InfoNCE's gradient is a difference of nearly equal numbers: the reason for DCL.
        for found, expected in zip(infonce, dcl, strict=True):
            torch.testing.assert_close(found, q * expected, rtol=1e-9, atol=1e-12)


def test_infonce_exceeds_dcl_by_minus_the_mean_of_log_q() -> None:
    views = unit_views(N, D)
    gap = loss_of("infonce", N, temperature=0.1)(*views) - loss_of("dcl", N, temperature=0.1)(*views)
    assert float(gap) == pytest.approx(-oracles.mean(map(math.log, npc_multiplier(*views, 0.1))))


@pytest.mark.parametrize("kind", PAIRS)
def test_eqco_with_alpha_of_the_number_of_negatives_is_infonce(kind: str) -> None:
    views = unit_views(N, D)
    pairs, compared = kinds_of_pairs(kind, N, D)
    _, negatives = compared(views[0].tolist(), views[1].tolist())[0]
    eqco = loss_of("eqco", N, alpha=float(len(negatives)), pairs=pairs)
    infonce = loss_of("infonce", N, pairs=pairs)
    assert float(eqco(*views)) == pytest.approx(float(infonce(*views)), rel=1e-12)
    assert_same(gradients(eqco, *views), gradients(infonce, *views))


def test_eqcos_gradient_tends_to_dcls_as_alpha_grows() -> None:
    views = unit_views(N, D)
    dcl = gradients(loss_of("dcl", N, temperature=0.5), *views)
    small, large = (gradients(loss_of("eqco", N, temperature=0.5, alpha=alpha), *views) for alpha in (1.0, 1e12))
    assert alignment(small, dcl) < 1 - 1e-6
    assert_same(large, dcl, rtol=1e-9)


def test_infonces_gradient_tends_to_dcls_as_the_batch_grows() -> None:
    # The positive's share of the softmax vanishes among 2N - 2 negatives.
    gaps, angles = [], []
    for n in (4, 32, 256):
        views = unit_views(n, D)
        infonce, dcl = loss_of("infonce", n, temperature=0.5), loss_of("dcl", n, temperature=0.5)
        gaps.append(float(infonce(*views) - dcl(*views)))
        angles.append(1 - alignment(gradients(infonce, *views), gradients(dcl, *views)))
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2] > 0
    assert angles[0] > 10 * angles[1] > 100 * angles[2] > 0


@settings(max_examples=10, deadline=None)
@given(temperature=temperatures, seed=st.integers(0, 99))
def test_sogclr_without_a_past_is_dcl(temperature: float, seed: int) -> None:
    # gamma = 1 forgets; a sample that has not been visited has nothing to forget.
    views = unit_views(N, D, seed)
    dcl = loss_of("dcl", N, temperature=temperature)
    for gamma, log_u in ((1.0, torch.zeros(N)), (0.4, torch.full((N,), -torch.inf))):
        sogclr = loss_of("sogclr", N, temperature=temperature, gamma=gamma, log_u=log_u)
        assert float(sogclr(*views)) == pytest.approx(float(dcl(*views)), rel=1e-11)
        assert_same(gradients(sogclr, *views), gradients(dcl, *views))


@pytest.mark.parametrize("detach_weights", [True, False])
@pytest.mark.parametrize("kind", PAIRS)
def test_dclws_weights_have_mean_one_over_all_anchors(kind: str, detach_weights: bool) -> None:
    # w_a is -A dL / dp_a of the positive's own logit; anchors beyond it enter through the weights alone.
    views = unit_views(N, D)
    pairs, compared = kinds_of_pairs(kind, N, D)
    similarities = pairs(*views)
    factors = torch.ones_like(similarities.positives, requires_grad=True)

    class Weighed:
        """The cosines are as they were; only the logits of the positives are multiplied."""

        positives, count = similarities.positives, similarities.count

        def log_sums(self, temperature: float) -> tuple[Tensor, Tensor]:
            p, sums = similarities.log_sums(temperature)
            return p * factors, sums

    loss = loss_of("dclw", N, temperature=1.0, detach_weights=detach_weights, pairs=lambda *_: Weighed())(*views)
    (slopes,) = torch.autograd.grad(loss, factors)
    weights = -slopes * len(factors) / similarities.positives
    assert float(weights.mean()) == pytest.approx(1, abs=1e-14)
    expected = oracles.dclw_weights(compared(views[0].tolist(), views[1].tolist()), defaults("dclw")["sigma"])
    assert weights.tolist() == pytest.approx(expected, rel=1e-12)


def test_dclw_is_dcl_where_all_positives_are_equal_and_where_sigma_is_large() -> None:
    z1, z2 = unit_views(N, D)
    dcl, dclw = loss_of("dcl", N), loss_of("dclw", N)
    assert float(dclw(z1, z1)) == pytest.approx(float(dcl(z1, z1)), rel=1e-13)
    assert float(loss_of("dclw", N, sigma=1e12)(z1, z2)) == pytest.approx(float(dcl(z1, z2)), rel=1e-9)


def criteria(k: Tensor) -> tuple[float, float]:
    """L_nc and L_c of Garrido et al. (definition 3.2) of K (M, N), read off VICReg's and the spectral loss's terms."""
    m, n = k.shape
    z = k.T
    # VICReg: 2 sum_{i != j} C_ij^2 / M with C = K K^T / (N - 1) where every dimension has mean 0.
    covariances = FUNCTIONS["vicreg"](z, z, invariance=0.0, variance=0.0, covariance=1.0)
    # Spectral: -2 mean |z_i|^2 + L_c / (N (N - 1)) where no norm is clipped.
    products = FUNCTIONS["spectral"](z, z, mu=1e6) + 2 * z.square().sum(1).mean()
    return float(covariances) * m * (n - 1) ** 2 / 2, float(products) * n * (n - 1)


@settings(max_examples=20, deadline=None)
@given(m=st.integers(2, 9), n=st.integers(2, 12), seed=st.integers(0, 99))
def test_sample_and_dimension_contrast_differ_by_norms_alone(m: int, n: int, seed: int) -> None:
    """Theorem 3.3: L_nc + sum_j |K_j.|^4 = L_c + sum_i |K_.i|^4."""
    k = torch.randn(m, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    k = k - k.mean(1, keepdim=True)
    dimension_contrast, sample_contrast = criteria(k)
    dimensions, samples = (float(k.norm(dim=dim).pow(4).sum()) for dim in (1, 0))
    assert dimension_contrast + dimensions == pytest.approx(sample_contrast + samples, rel=1e-10)


def test_doubly_normalised_embeddings_have_criteria_that_differ_by_a_constant() -> None:
    # Unit samples and dimension norms sqrt(N / M): L_nc = L_c + N - N^2 / M; "N - M" needs N = M.
    m, n = 3, 8
    signs = torch.tensor([[1, 1, 1, 1, -1, -1, -1, -1], [1, 1, 1, -1, 1, -1, -1, -1], [1, -1, 1, 1, -1, 1, -1, -1]])
    dimension_contrast, sample_contrast = criteria(signs.double() / math.sqrt(m))
    assert dimension_contrast == pytest.approx(sample_contrast + n - n**2 / m, rel=1e-12)


@pytest.mark.parametrize("n", [2, 7, 64])
def test_equal_embeddings_give_the_log_of_the_number_of_candidates(n: int) -> None:
    z = normalize(torch.ones(n, 3, dtype=torch.float64), dim=1)
    for name in OF_PAIRS:
        value = float(loss_of(name, n, alpha=2 * n - 2.0)(z, z) if name == "eqco" else loss_of(name, n)(z, z))
        assert value == pytest.approx(math.log(2 * n - 2 if name.startswith("dcl") else 2 * n - 1), rel=1e-12)
