"""FlatNCE (Chen et al. 2021, arXiv 2107.01152)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.ssl.losses.pairs import Pairs, two_views
from harness.ssl.losses.validation import validated_loss


@validated_loss
def flatnce(z1: Tensor, z2: Tensor, *, temperature: float, pairs: Pairs = two_views) -> Tensor:
    """Mean over anchors of ``exp(v - stopgrad(v))`` with ``v = LSE(n - p)``, which is 1 whatever the embeddings.

    Its gradient is DCL's: ``d exp(v - stopgrad(v)) = dv`` and ``v = LSE(n) - p``. So that nobody watches a constant,
    the value is InfoNCE's, ``LSE(p, n) - p = log(1 + exp(v))``, without a gradient of its own.

    Args:
        z1, z2: (N, d), L2-normalised embeddings of two views.
        temperature: > 0.
        pairs: who is compared with whom; by default 2N anchors with 2N - 2 negatives each.

    Returns:
        A scalar, in nats.
    """
    p, sums = pairs(z1, z2).log_sums(temperature)
    v = sums - p
    infonce = torch.logaddexp(v.detach(), torch.zeros_like(v))
    return (torch.exp(v - v.detach()) - 1 + infonce).mean()
