"""The spectral contrastive loss (HaoChen et al., NeurIPS 2021, arXiv 2106.04156)."""

from __future__ import annotations

import math

from torch import Tensor

from harness.ssl.losses.validation import validated_loss


@validated_loss
def spectral(z1: Tensor, z2: Tensor, *, mu: float) -> Tensor:
    """``-2 mean_i <z1_i, z2_i> + sum_{i != j} <z1_i, z2_j>^2 / (N (N - 1))``.

    Args:
        z1, z2: (N, d), embeddings of two views, of any norm; a longer one is scaled back to norm sqrt(mu).
        mu: > 0.
    """
    n = z1.shape[0]
    z1, z2 = _clipped(z1, math.sqrt(mu)), _clipped(z2, math.sqrt(mu))
    positives = (z1 * z2).sum(1)
    # sum_ij <z1_i, z2_j>^2 is the sum of products of the two Gram matrices too, which are d x d.
    squares = ((z1.T @ z1) * (z2.T @ z2)).sum() if n > z1.shape[1] else (z1 @ z2.T).square().sum()
    return -2 * positives.mean() + (squares - positives.square().sum()) / (n * (n - 1))


def _clipped(z: Tensor, radius: float) -> Tensor:
    shrink: Tensor = radius / z.norm(dim=1, keepdim=True).clamp(min=radius)
    return z * shrink
