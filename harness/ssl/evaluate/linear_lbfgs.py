"""A linear probe: multinomial logistic regression on frozen features, solved to convergence by L-BFGS.

Deterministic and without a learning rate or a number of epochs to choose, so that it adds no luck of its own. It is
not the augmented 90-epoch SGD probe of the papers (``linear_sgd``).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

ITERATIONS = 100


def linear_accuracy(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, *, penalty: float) -> float:
    """Return the percentage of test rows that the probe classifies correctly.

    Args:
        train, test: (n, f) and (m, f) features; standardised here by the training rows' mean and deviation.
        train_labels, test_labels: int64 (n,) and (m,).
        penalty: ridge penalty on the weights, relative to the mean cross-entropy.
    """
    mean, deviation = train.mean(0), train.std(0)
    deviation = torch.where(deviation > 1e-6, deviation, 1.0)  # a feature that is dead in training carries nothing
    train, test = (train - mean) / deviation, (test - mean) / deviation
    classes = int(train_labels.max()) + 1
    weights = torch.zeros(train.shape[1], classes, device=train.device, requires_grad=True)
    bias = torch.zeros(classes, device=train.device, requires_grad=True)
    solver = torch.optim.LBFGS([weights, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        objective = cross_entropy(train @ weights + bias, train_labels) + penalty * weights.square().sum()
        objective.backward()
        return objective

    solver.step(closure)
    with torch.no_grad():
        return 100 * float(((test @ weights + bias).argmax(1) == test_labels).float().mean())
