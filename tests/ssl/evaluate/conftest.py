"""Digits as rows of pixels."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor


@pytest.fixture
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training rows and labels, test rows and labels."""
    pixels, labels = load_digits(return_X_y=True)
    rows, classes = torch.from_numpy(pixels).float(), torch.from_numpy(labels).long()
    return rows[:1000], classes[:1000], rows[1000:], classes[1000:]
