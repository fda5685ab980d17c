"""InfoNCE, as SimCLR's NT-Xent (Chen et al. 2020, arXiv 2002.05709, eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.ssl.losses.pairs import Pairs, two_views
from harness.ssl.losses.validation import validated_loss


@validated_loss
def infonce(z1: Tensor, z2: Tensor, *, temperature: float, pairs: Pairs = two_views) -> Tensor:
    """Mean over anchors of ``LSE(p, n) - p = log(1 + exp(LSE(n) - p))``.

    In the second form: the first subtracts two numbers that are nearly equal where the positive dominates, and the
    gradient goes with them (in fp32 at temperature .05 up to .8 %, at .02 all of it): numerics would look like a
    decoupled loss's merit.

    ``p`` is the anchor's similarity to its positive, ``n`` those to its negatives, all over ``temperature``.

    Args:
        z1, z2: (N, d), L2-normalised embeddings of two views.
        temperature: > 0.
        pairs: who is compared with whom; by default 2N anchors with 2N - 2 negatives each.

    Returns:
        A scalar, in nats; log(1 + number of negatives) where all embeddings are equal.
    """
    p, sums = pairs(z1, z2).log_sums(temperature)
    v = sums - p
    return torch.logaddexp(v, torch.zeros_like(v)).mean()
