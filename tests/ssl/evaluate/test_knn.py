"""Nearest neighbours against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from harness.ssl.evaluate.knn import knn_accuracy

Digits = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (20, 0.07), (200, 0.1), (200, 0.2)])
def test_knn_is_scikit_learns_with_the_same_weights(digits: Digits, k: int, temperature: float) -> None:
    bank, bank_labels, queries, query_labels = digits
    reference = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp(-distance / temperature)
    ).fit(bank.numpy(), bank_labels.numpy())
    expected = 100 * reference.score(queries.numpy(), query_labels.numpy())
    found = knn_accuracy(bank, bank_labels, queries, query_labels, k=k, temperature=temperature)
    assert found == pytest.approx(expected, abs=0.26)  # two of 797 queries: ties and rounding


@pytest.mark.parametrize("k", [1, 2, 10, 200])
def test_plain_votes_are_scikit_learns(digits: Digits, k: int) -> None:
    bank, bank_labels, queries, query_labels = digits
    reference = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights="uniform")
    expected = 100 * reference.fit(bank.numpy(), bank_labels.numpy()).score(queries.numpy(), query_labels.numpy())
    found = knn_accuracy(bank, bank_labels, queries, query_labels, k=k, temperature=None)
    # Ties between classes go to the first class in both; a tie for the last neighbour's place may differ.
    assert found == pytest.approx(expected, abs=0.26)


def test_a_tie_between_classes_goes_to_the_first_however_near_the_other_is() -> None:
    bank, labels = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([1, 0])
    query = torch.tensor([[1.0, 0.1]])
    assert knn_accuracy(bank, labels, query, torch.tensor([0]), k=2, temperature=None) == 100
    assert knn_accuracy(bank, labels, query, torch.tensor([1]), k=2, temperature=0.1) == 100
