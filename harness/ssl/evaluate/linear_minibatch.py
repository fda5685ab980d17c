"""A linear probe that is trained in batches for a number of epochs; the last one counts, none is chosen on the test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.random_streams import permutation
from harness.ssl.optim.schedule import half_cosine

#: The features of an epoch's batches: the epoch, and training rows (b,) for each batch -> features (b, f) for each.
Features = Callable[[int, Sequence[Tensor]], Iterator[Tensor]]


def descent_accuracy(
    features_in: Features,
    labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    *,
    epochs: int,
    batch: int,
    lr: float,
    optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer],
) -> float:
    """Return the percentage of test rows that the probe classifies correctly.

    It starts from zero weights (the problem is convex, and a random start would only add luck); ``lr`` falls to zero
    along a cosine.

    Args:
        features_in: the training images' features.
        labels, test_labels: int64 (n,) and (m,).
        test: (m, f) features.
        optimizer: makes the optimiser of weights and bias; its learning rate is set in each step.
    """
    classes = int(labels.max()) + 1
    weights = torch.zeros(test.shape[1], classes, device=test.device, requires_grad=True)
    bias = torch.zeros(classes, device=test.device, requires_grad=True)
    descent = optimizer([weights, bias])
    step, steps = 0, epochs * -(-len(labels) // batch)
    for epoch in range(epochs):
        order = torch.from_numpy(permutation(0, "linear probe order", len(labels), epoch)).to(test.device)
        batches = order.split(batch)
        for rows, features in zip(batches, features_in(epoch, batches), strict=True):
            descent.param_groups[0]["lr"] = lr * half_cosine(step, steps)
            descent.zero_grad()
            cross_entropy(features @ weights + bias, labels[rows]).backward()
            descent.step()
            step += 1
    with torch.no_grad():
        return 100 * float(((test @ weights + bias).argmax(1) == test_labels).float().mean())
