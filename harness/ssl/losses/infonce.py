"""InfoNCE, as SimCLR's NT-Xent (Chen et al. 2020, arXiv 2002.05709, eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.ssl.losses.similarity import positives_and_negatives


def infonce(z1: Tensor, z2: Tensor, *, temperature: float) -> Tensor:
    """Mean over the 2N anchors of ``LSE(p, n) - p``.

    ``p`` is the anchor's similarity to its positive, ``n`` those to its 2N - 2 negatives, all over ``temperature``.

    Args:
        z1, z2: (N, d), L2-normalised embeddings of two views.
        temperature: > 0.

    Returns:
        A scalar, in nats; log(2N - 1) where all embeddings are equal.
    """
    p, n = positives_and_negatives(z1, z2, temperature)
    return (torch.logaddexp(p, n.logsumexp(1)) - p).mean()
