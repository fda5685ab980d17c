"""The similarities that all two-view sample-contrastive losses share."""

from __future__ import annotations

import torch
from torch import Tensor


def positives_and_negatives(z1: Tensor, z2: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Similarities of each of the 2N anchors to its positive and to its 2N - 2 negatives, over the temperature.

    The anchors are both views of every sample; an anchor's negatives are both views of every *other* sample.

    Args:
        z1, z2: (N, d), L2-normalised embeddings of two views; row i of both is sample i.
        temperature: > 0; divides the cosine similarities.

    Returns:
        positives: (2N,); negatives: (2N, 2N), with -inf where the pair is the anchor itself or its positive, so that
        a logsumexp over rows runs over the negatives alone. Both in fp32 or wider: under autocast a similarity in
        half precision, divided by a small temperature, has no digits left.
    """
    wide = torch.promote_types(z1.dtype, torch.float32)
    with torch.autocast(z1.device.type, enabled=False):
        anchors = torch.cat([z1, z2]).to(wide)
        similarities = anchors @ anchors.T / temperature
    n = z1.shape[0]
    itself = torch.eye(n, dtype=torch.bool, device=z1.device).repeat(2, 2)
    positives = torch.cat([similarities.diagonal(n), similarities.diagonal(-n)])
    return positives, similarities.masked_fill(itself, -torch.inf)
