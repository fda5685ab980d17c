"""Decoupled contrastive learning (Yeh et al., ECCV 2022, arXiv 2110.06848)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.ssl.losses.similarity import positives_and_negatives


def dcl(z1: Tensor, z2: Tensor, *, temperature: float) -> Tensor:
    """Mean over the 2N anchors of ``LSE(n) - p`` (eq. 6): InfoNCE without the positive in its denominator.

    One logsumexp runs over the negatives of both views together.

    Args:
        z1, z2: (N, d), L2-normalised embeddings of two views.
        temperature: > 0.

    Returns:
        A scalar, in nats; it can be negative.
    """
    p, n = positives_and_negatives(z1, z2, temperature)
    return (n.logsumexp(1) - p).mean()


def dclw(z1: Tensor, z2: Tensor, *, temperature: float, sigma: float) -> Tensor:
    """Mean over the 2N anchors of ``LSE(n) - w p``, with ``w_i = 2 - N softmax_i(<z1_i, z2_i> / sigma)``.

    A pair that is already close is pulled less. The weights have mean 1 over the batch, are shared by both anchors
    of a sample, and are detached: no gradient runs through them (the paper does not say; public code differs).

    Args:
        z1, z2: (N, d), L2-normalised embeddings of two views.
        temperature: > 0.
        sigma: > 0; the larger, the more even the weights.
    """
    p, n = positives_and_negatives(z1, z2, temperature)
    # The positives of the two halves are the same N similarities, so the softmax is over either half.
    cosines = p.detach()[: z1.shape[0]] * temperature
    weights = 2 - z1.shape[0] * torch.softmax(cosines / sigma, dim=0)
    return (n.logsumexp(1) - weights.repeat(2) * p).mean()
