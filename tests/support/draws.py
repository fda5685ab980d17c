"""Draws of views, and how far apart two samples of what comes of them are."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from harness.cell import Views
from harness.ssl.data.augmentation_parameters import BLUR_DRAWS, DRAWS, ORDER_DRAWS, RETRY_DRAWS, columns


def neutral_draws(count: int = 4, /, **fixed: float) -> Tensor:
    """Draws under which nothing happens (square crops), but for those that are given; with blur's where it is given."""
    neutral = {"ratio": 0.5, "jitter": 0.99, "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.5}
    names = DRAWS + RETRY_DRAWS + ORDER_DRAWS + BLUR_DRAWS * ("blur" in fixed)
    return torch.tensor([[{**neutral, **fixed}.get(name, 0.999) for name in names]] * count)


def uniform_draws(count: int, views: Views, seed: int = 0) -> Tensor:
    return torch.rand(count, columns(views), generator=torch.Generator().manual_seed(seed))


def largest_gap(first: np.ndarray, second: np.ndarray) -> float:
    """Kolmogorov and Smirnov's distance between two samples' distributions."""
    at = np.unique(np.concatenate([first, second]))
    shares = [np.searchsorted(np.sort(sample), at, side="right") / len(sample) for sample in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def kolmogorov(count: int) -> float:
    """The distance of two samples of ``count`` that one pair in 1,000 exceeds."""
    return math.sqrt(-math.log(0.001 / 2) / count)
