"""Probes that are trained in batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from harness.cell import Dataset, Views
from harness.datasets import find
from harness.random_streams import permutation
from harness.ssl.data import augment, augmentation_parameters, sources
from harness.ssl.data.split import Data
from harness.ssl.evaluate.features import features
from harness.ssl.evaluate.linear_adam import adam_accuracy
from harness.ssl.evaluate.linear_minibatch import descent_accuracy
from harness.ssl.evaluate.linear_sgd import sgd_accuracy


class Coarse(nn.Sequential):
    """Images 8x8 -> 4 averages: too few for the digits to be separable, so that the optimum is one point."""

    def __init__(self) -> None:
        super().__init__(nn.AvgPool2d(4), nn.Flatten(), nn.BatchNorm1d(4))


@pytest.fixture
def data() -> Data:
    return sources.load(Dataset("digits", 8, 0.1, find("digits", None).fingerprint), None)


def rows(data: Data, encoder: nn.Module | None = None) -> tuple[Tensor, Tensor]:
    """Features of the bank and of the test images."""
    encoder = encoder or Coarse()
    train, test = (features(encoder, split, data.mean, data.std, "fp32") for split in (data.bank, data.test))
    return train, test


def adam(data: Data, epochs: int) -> float:
    train, test = rows(data)
    return adam_accuracy(train, data.bank.labels, test, data.test.labels, epochs=epochs)


def sgd(data: Data, epochs: int, encoder: nn.Module | None = None) -> float:
    encoder = encoder or Coarse()
    return sgd_accuracy(encoder, data, test=rows(data, encoder)[1], epochs=epochs, precision="fp32")


@pytest.mark.e2e
def test_descent_ends_at_the_optimum_of_logistic_regression(data: Data) -> None:
    train, test = rows(data)
    reference = LogisticRegression(C=1e6, max_iter=5000).fit(train.numpy(), data.bank.labels.numpy())
    found = descent_accuracy(
        lambda _, batches: (train[rows] for rows in batches), data.bank.labels, test, data.test.labels,
        epochs=1500, batch=len(train), lr=0.1, optimizer=torch.optim.Adam,
    )  # fmt: skip
    expected = 100 * reference.score(test.numpy(), data.test.labels.numpy())
    assert found == pytest.approx(expected, abs=0.3)  # one of 360 images


def by_torch(data: Data, epochs: int, batch: int, descend: Callable[[nn.Linear], torch.optim.Optimizer]) -> float:
    """The protocol with torch's own layer, sampler of batches and cosine."""
    train, test = rows(data)
    probe = nn.Linear(train.shape[1], 10)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    optimizer = descend(probe)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * math.ceil(len(train) / batch))
    for epoch in range(epochs):
        order = permutation(0, "linear probe order", len(train), epoch)
        for taken in np.array_split(order, range(batch, len(order), batch)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(probe(train[taken]), data.bank.labels[taken]).backward()
            optimizer.step()
            cosine.step()
    return 100 * float((probe(test).argmax(1) == data.test.labels).double().mean())


def test_adam_is_the_published_loop(data: Data) -> None:
    expected = by_torch(data, 20, 1000, lambda probe: torch.optim.Adam(probe.parameters(), lr=0.01))
    assert adam(data, 20) == pytest.approx(expected, abs=0.3)


def test_sgd_is_the_published_loop(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "augment", lambda images, recipes, views: images[None].float() / 255)
    expected = by_torch(data, 5, 256, lambda probe: torch.optim.SGD(probe.parameters(), lr=0.1, momentum=0.9))
    assert sgd(data, 5) == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize("probe", [adam, sgd])
def test_the_same_images_give_the_same_number(probe: Callable[[Data, int], float], data: Data) -> None:
    assert probe(data, 3) == probe(data, 3)


def test_sgd_sees_other_crops_in_every_epoch_and_the_test_images_as_they_are(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    original = augmentation_parameters.resolve

    def spy(draws: Tensor, views: Views, *shape: int) -> Tensor:
        seen.extend(draws)
        assert (views.crop_min, views.jitter) == (0.08, 0.0)
        return original(draws, views, *shape)

    monkeypatch.setattr(augmentation_parameters, "resolve", spy)
    sgd(data, 2)
    assert sum(map(len, seen)) == 2 * len(data.bank), "every training image once an epoch, no test image"
    assert len(torch.cat(seen).unique(dim=0)) == 2 * len(data.bank)


def test_sgd_leaves_the_encoder_as_it_was(data: Data) -> None:
    encoder = Coarse().train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    sgd(data, 1, encoder)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_the_learning_rate_falls_to_zero_along_a_cosine() -> None:
    rates: list[float] = []

    class Recorded(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    train = torch.eye(10)
    descent_accuracy(
        lambda _, batches: (train[rows] for rows in batches), torch.arange(10), train, torch.arange(10),
        epochs=2, batch=4, lr=0.5, optimizer=lambda weights: Recorded(weights, lr=0.0),
    )  # fmt: skip
    assert len(rates) == 2 * 3, "the last batch of an epoch may be smaller"
    assert rates[0] == 0.5
    assert rates[3] == pytest.approx(0.25)
    assert rates == sorted(rates, reverse=True)
