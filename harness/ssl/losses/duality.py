"""The losses between SimCLR and VICReg (Garrido et al., ICLR 2023, arXiv 2206.02574).

SimCLR and DCL on squared or absolute cosines are sample-contrastive (proposition 3.2): they push two embeddings towards
a right angle instead of apart. The main text gives them in words only, "with squared" or "absolute cosine
similarities"; whether the positive is meant too is an option here, and by default it is.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from harness.ssl.losses.dcl import dcl
from harness.ssl.losses.infonce import infonce
from harness.ssl.losses.pairs import Pairs, Similarities, two_views
from harness.ssl.losses.tiled_logsumexp import ABSOLUTE, SQUARE, Map, log_sums
from harness.ssl.losses.validation import validated_loss
from harness.ssl.losses.vicreg import variance_hinge


@validated_loss
def simclr_sq(z1: Tensor, z2: Tensor, *, temperature: float, square_positive: bool, pairs: Pairs = two_views) -> Tensor:
    """InfoNCE of squared cosines: (N, d), (N, d) unit embeddings -> scalar, in nats."""
    return infonce(z1, z2, temperature=temperature, pairs=_mapped(pairs, SQUARE, square_positive))


@validated_loss
def simclr_abs(z1: Tensor, z2: Tensor, *, temperature: float, abs_positive: bool, pairs: Pairs = two_views) -> Tensor:
    """InfoNCE of absolute cosines: (N, d), (N, d) unit embeddings -> scalar, in nats."""
    return infonce(z1, z2, temperature=temperature, pairs=_mapped(pairs, ABSOLUTE, abs_positive))


@validated_loss
def dcl_sq(z1: Tensor, z2: Tensor, *, temperature: float, square_positive: bool, pairs: Pairs = two_views) -> Tensor:
    """DCL of squared cosines: (N, d), (N, d) unit embeddings -> scalar, in nats."""
    return dcl(z1, z2, temperature=temperature, pairs=_mapped(pairs, SQUARE, square_positive))


@validated_loss
def dcl_abs(z1: Tensor, z2: Tensor, *, temperature: float, abs_positive: bool, pairs: Pairs = two_views) -> Tensor:
    """DCL of absolute cosines: (N, d), (N, d) unit embeddings -> scalar, in nats."""
    return dcl(z1, z2, temperature=temperature, pairs=_mapped(pairs, ABSOLUTE, abs_positive))


@validated_loss
def vicreg_exp(
    z1: Tensor, z2: Tensor, *, temperature: float, invariance: float, variance: float, covariance: float
) -> Tensor:
    """VICReg with ``c_exp`` for its covariance term (eqs. 11 and 12).

    The variance term stays VICReg's, the mean over the two views (eq. 12 prints their sum, a factor 2 in its weight).

    Args:
        z1, z2: (N, d), embeddings of two views, of any norm.
        temperature: > 0, divides the covariances.
        invariance, variance, covariance: the terms' weights.
    """
    return (
        invariance * mse_loss(z1, z2)
        + variance * (variance_hinge(z1) + variance_hinge(z2)) / 2
        + covariance * (_c_exp(z1, temperature) + _c_exp(z2, temperature))
    )


@validated_loss
def vicreg_ctr(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float,
    invariance: float,
    variance: float,
    covariance: float,
    unit_norm: bool,
) -> Tensor:
    """VICReg-exp with variance and covariance of the transposed embeddings (eq. 13): between samples.

    Eq. 13 literally: every sample is centred over its d dimensions, 1/d and 1/(N - 1) become 1/N and 1/(d - 1).

    Args:
        z1, z2: (N, d), embeddings of two views, of any norm.
        temperature: > 0, divides the samples' covariances.
        invariance, variance, covariance: the terms' weights.
        unit_norm: Table 1's reading, dimensions centred over the batch and embeddings of norm 1. A unit vector's d
            entries have variance 1/d: the hinge then stays near 1 with hardly a gradient.
    """
    if unit_norm:
        z1, z2 = normalize(z1 - z1.mean(0), dim=1), normalize(z2 - z2.mean(0), dim=1)
    return (
        invariance * mse_loss(z1, z2)
        + variance * (variance_hinge(z1.T) + variance_hinge(z2.T)) / 2
        + covariance * (_c_exp(z1.T, temperature) + _c_exp(z2.T, temperature))
    )


def _c_exp(z: Tensor, temperature: float) -> Tensor:
    """``(1/d) sum_i log sum_{j != i} exp(C_ij / temperature)`` of (N, d): one logarithm a row (eq. 11)."""
    scaled = (z - z.mean(0)) / ((z.shape[0] - 1) * temperature) ** 0.5
    return log_sums(scaled.T, excluded=(0,)).mean()


def _mapped(pairs: Pairs, function: Map, positive: bool) -> Pairs:
    """The same pairs with ``function`` of their cosines."""

    def transformed_pairs(z1: Tensor, z2: Tensor) -> Similarities:
        return pairs(z1, z2).transformed(function, positive=positive)

    return transformed_pairs
