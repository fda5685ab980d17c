"""Random embeddings of two views, with which losses are tried."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.catalog.losses import LossEntry


def random_views(
    entry: LossEntry, samples: int, width: int, seed: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Return z1 and z2 (samples, width), which resemble each other, of norm 1 where the loss takes such ones."""
    generator = torch.Generator().manual_seed(seed)
    base, *noise = torch.randn(3, samples, width, generator=generator, dtype=dtype)
    z1, z2 = (base + 0.7 * one for one in noise)
    return (normalize(z1, dim=1), normalize(z2, dim=1)) if entry.unit_norm else (z1, z2)
