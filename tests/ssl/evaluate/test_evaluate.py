"""Evaluation against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from harness.ssl.evaluate.knn import knn_accuracy
from harness.ssl.evaluate.linear import linear_accuracy


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    rows, classes = torch.from_numpy(pixels).float(), torch.from_numpy(labels).long()
    return rows[:1000], classes[:1000], rows[1000:], classes[1000:]


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (20, 0.07), (200, 0.1)])
def test_knn_is_scikit_learns_with_the_same_weights(k: int, temperature: float) -> None:
    bank, bank_labels, queries, query_labels = digits()
    reference = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp(-distance / temperature)
    ).fit(bank.numpy(), bank_labels.numpy())
    expected = 100 * reference.score(queries.numpy(), query_labels.numpy())
    found = knn_accuracy(bank, bank_labels, queries, query_labels, k=k, temperature=temperature)
    assert found == pytest.approx(expected, abs=0.26)  # two of 797 queries: ties and rounding


def test_the_probe_is_logistic_regression_at_its_optimum() -> None:
    train, train_labels, test, test_labels = digits()
    penalty = 1e-3
    scaler = StandardScaler().fit(train.numpy())
    reference = LogisticRegression(C=1 / (2 * penalty * len(train)), max_iter=2000).fit(
        scaler.transform(train.numpy()), train_labels.numpy()
    )
    expected = 100 * reference.score(scaler.transform(test.numpy()), test_labels.numpy())
    found = linear_accuracy(train, train_labels, test, test_labels, penalty=penalty)
    assert found == pytest.approx(expected, abs=0.4)


def test_a_dead_feature_does_not_spoil_the_probe() -> None:
    train, train_labels, test, test_labels = digits()
    dead = torch.cat([test, torch.full((len(test), 1), 1e-3)], 1)
    with_dead = linear_accuracy(
        torch.cat([train, torch.zeros(len(train), 1)], 1), train_labels, dead, test_labels, penalty=1e-3
    )
    assert with_dead == pytest.approx(linear_accuracy(train, train_labels, test, test_labels, penalty=1e-3), abs=0.2)
