"""Intervals, each a small pure function around scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds with its t interval; the bounds are NaN for fewer than two."""

    mean: float
    low: float
    high: float
    n: int


def signed(number: float) -> str:
    """``+1.20`` or ``-0.50``, with a real minus sign."""
    return f"{number:+.2f}".replace("-", "\N{MINUS SIGN}")


def mean_interval(values: Sequence[float]) -> Interval:
    """Student's t interval of a mean: at these sample sizes a bootstrap's is too narrow (84 % at n = 5).

    Args:
        values: (n,), one number a seed.
    """
    n = len(values)
    if n < 2:
        return Interval(float(np.mean(values)) if n else float("nan"), float("nan"), float("nan"), n)
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(n)
    half = error * float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))  # scipy.stats says the same in a thousand times as long
    return Interval(mean, mean - half, mean + half, n)
