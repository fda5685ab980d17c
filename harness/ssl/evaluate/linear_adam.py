"""dkobak's linear probe (github.com/dkobak/simclr-cifar10): Adam on features that are computed once, as they come."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.ssl.evaluate.linear_minibatch import descent_accuracy

BATCH, LR = 1000, 0.01


def adam_accuracy(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, *, epochs: int) -> float:
    """Return the percentage of test rows that the probe classifies correctly after the last epoch.

    Args:
        train, test: (n, f) and (m, f) features.
        train_labels, test_labels: int64 (n,) and (m,).
        epochs: passes over the training rows.
    """
    return descent_accuracy(
        lambda _, batches: (train[rows] for rows in batches),
        train_labels,
        test,
        test_labels,
        epochs=epochs,
        batch=BATCH,
        lr=LR,
        optimizer=torch.optim.Adam,
    )
