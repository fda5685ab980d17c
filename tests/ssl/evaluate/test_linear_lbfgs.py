"""The linear probe by L-BFGS against scikit-learn."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from harness.ssl.evaluate.linear_lbfgs import linear_accuracy

Digits = tuple[Tensor, Tensor, Tensor, Tensor]


def test_the_probe_is_logistic_regression_at_its_optimum(digits: Digits) -> None:
    train, train_labels, test, test_labels = digits
    penalty = 1e-3
    scaler = StandardScaler().fit(train.numpy())
    reference = LogisticRegression(C=1 / (2 * penalty * len(train)), max_iter=2000).fit(
        scaler.transform(train.numpy()), train_labels.numpy()
    )
    expected = 100 * reference.score(scaler.transform(test.numpy()), test_labels.numpy())
    found = linear_accuracy(train, train_labels, test, test_labels, penalty=penalty)
    assert found == pytest.approx(expected, abs=0.4)


def test_a_dead_feature_does_not_spoil_the_probe(digits: Digits) -> None:
    train, train_labels, test, test_labels = digits
    dead = torch.cat([test, torch.full((len(test), 1), 1e-3)], 1)
    with_dead = linear_accuracy(
        torch.cat([train, torch.zeros(len(train), 1)], 1), train_labels, dead, test_labels, penalty=1e-3
    )
    assert with_dead == pytest.approx(linear_accuracy(train, train_labels, test, test_labels, penalty=1e-3), abs=0.2)
