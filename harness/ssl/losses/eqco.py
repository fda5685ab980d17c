"""Equivalent rules for contrastive learning, EqCo (Zhu et al. 2020, arXiv 2010.01929)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.ssl.losses.pairs import Pairs, two_views
from harness.ssl.losses.validation import validated_loss


@validated_loss
def eqco(z1: Tensor, z2: Tensor, *, temperature: float, alpha: float, pairs: Pairs = two_views) -> Tensor:
    """Mean over anchors of ``LSE(p, n + log(alpha / K)) - p``: K negatives that weigh as much as alpha would. Computed
    as InfoNCE is.

    The margin ``m = temperature log(alpha / K)`` of the positive, in the paper's form. K is the number of negatives
    that an anchor really has; alpha = K is InfoNCE.

    Args:
        z1, z2: (N, d), L2-normalised embeddings of two views.
        temperature: > 0.
        alpha: >= 1, the number of negatives to be equivalent to.
        pairs: who is compared with whom; by default 2N anchors with 2N - 2 negatives each.

    Returns:
        A scalar, in nats.
    """
    similarities = pairs(z1, z2)
    p, sums = similarities.log_sums(temperature)
    v = sums - p + math.log(alpha / similarities.count)
    return torch.logaddexp(v, torch.zeros_like(v)).mean()
