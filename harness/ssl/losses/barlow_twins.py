"""Barlow Twins (Zbontar et al., ICML 2021, arXiv 2103.03230)."""

from __future__ import annotations

from torch import Tensor

from harness.ssl.losses.validation import validated_loss

EPSILON = 1e-5


@validated_loss
def barlow_twins(z1: Tensor, z2: Tensor, *, redundancy: float) -> Tensor:
    """``sum_i (1 - C_ii)^2 + redundancy sum_{i != j} C_ij^2`` of the views' cross-correlation C (d, d).

    Dimensions are standardised over the batch with the biased variance, as by the authors' affine-free batch norm.

    Args:
        z1, z2: (N, d), embeddings of two views, of any norm.
        redundancy: >= 0, the paper's lambda, .0051 there.
    """
    c = _standardised(z1).T @ _standardised(z2) / z1.shape[0]
    diagonal = c.diagonal()
    off_diagonal = c.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + redundancy * off_diagonal


def _standardised(z: Tensor) -> Tensor:
    return (z - z.mean(0)) / (z.var(0, correction=0) + EPSILON).sqrt()
