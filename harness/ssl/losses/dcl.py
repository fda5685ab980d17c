"""Decoupled contrastive learning (Yeh et al., ECCV 2022, arXiv 2110.06848)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.ssl.losses.pairs import Pairs, two_views
from harness.ssl.losses.validation import validated_loss


@validated_loss
def dcl(z1: Tensor, z2: Tensor, *, temperature: float, pairs: Pairs = two_views) -> Tensor:
    """Mean over anchors of ``LSE(n) - p`` (eq. 6): InfoNCE without the positive in its denominator.

    One logsumexp runs over the negatives of both views together.

    Args:
        z1, z2: (N, d), L2-normalised embeddings of two views.
        temperature: > 0.
        pairs: who is compared with whom; by default 2N anchors with 2N - 2 negatives each.

    Returns:
        A scalar, in nats; it can be negative.
    """
    p, sums = pairs(z1, z2).log_sums(temperature)
    return (sums - p).mean()


@validated_loss
def dclw(
    z1: Tensor, z2: Tensor, *, temperature: float, sigma: float, detach_weights: bool, pairs: Pairs = two_views
) -> Tensor:
    """Mean over anchors of ``LSE(n) - w p``, with ``w_i = 2 - A softmax_i(<z1_i, z2_i> / sigma)`` over A anchors.

    A pair that is already close is pulled less. The weights have mean 1 over the whole batch. Over the 2N anchors of
    two views this is the paper's ``2 - N softmax_i`` over N samples: every positive stands there twice.

    Args:
        z1, z2: (N, d), L2-normalised embeddings of two views.
        temperature: > 0.
        sigma: > 0; the larger, the more even the weights.
        detach_weights: whether no gradient runs through the weights (the paper does not say; public code differs).
        pairs: who is compared with whom; by default 2N anchors with 2N - 2 negatives each.
    """
    similarities = pairs(z1, z2)
    p, sums = similarities.log_sums(temperature)
    cosines = similarities.positives.detach() if detach_weights else similarities.positives
    weights = 2 - cosines.shape[0] * torch.softmax(cosines / sigma, dim=0)
    return (sums - weights * p).mean()
