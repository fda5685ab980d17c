"""SogCLR: stochastic optimisation of a global contrastive loss (Yuan et al., ICML 2022, arXiv 2202.12387)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.errors import UserError
from harness.ssl.losses.pairs import two_views
from harness.ssl.losses.validation import validated_loss


@validated_loss
def sogclr(z1: Tensor, z2: Tensor, *, log_u: Tensor, temperature: float, gamma: float) -> tuple[Tensor, Tensor]:
    """DCL whose softmax over negatives is normalised by a moving average over steps instead of the batch's sum.

    ``u <- (1 - gamma) u + gamma mean_k exp(n_k)`` of each anchor; its gradient is that of ``mean_k w_k n_k - p`` with
    ``w_k = exp(n_k) / u`` held fixed. Every anchor uses its own u; the two views' are combined only when they are
    stored. Kept as log u: exp(1 / temperature) overflows. gamma = 1 is DCL.

    Args:
        z1, z2: (N, d), L2-normalised embeddings of two views.
        log_u: (N,), the samples' stored averages; -inf where a sample has not been seen, whose first average is the
            batch's own.
        temperature: > 0.
        gamma: in [0, 1], the weight of the present batch.

    Returns:
        The mean over 2N anchors of ``log((2N - 2) u) - p``, in nats, and the averages (N,) to store.
    """
    if log_u.shape != z1.shape[:1]:
        raise UserError(f"its shape is {tuple(log_u.shape)}", where="log_u", allowed=f"({z1.shape[0]},), one a sample")
    similarities = two_views(z1, z2)
    p, sums = similarities.log_sums(temperature)
    count = similarities.count
    with torch.no_grad():
        batch = sums - math.log(count)
        stored = log_u.to(sums.dtype).repeat(2)
        average = torch.logaddexp(_log(1 - gamma) + stored, _log(gamma) + batch)
        own = torch.where(stored.isneginf(), batch, average)
        # sum_k w_k dn_k = (batch's average / u) dLSE(n). A u far below it (a tiny gamma) would overflow; 60 is 1e26.
        ratios = torch.exp((batch - own).clamp(max=60.0))
        first, second = own.chunk(2)
        update = torch.logaddexp(first, second) - math.log(2)
        value = (own + math.log(count) - p).mean()
    surrogate = (ratios * sums - p).mean()
    return value + (surrogate - surrogate.detach()), update


def _log(fraction: float) -> float:
    return math.log(fraction) if fraction > 0 else -math.inf
