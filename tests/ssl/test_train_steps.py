"""A cell of so many optimiser steps ends after exactly these, also within an epoch, and resumes like any other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.cell import Optimizer
from harness.ssl import optim, train
from harness.ssl.attempt import run_cell
from harness.ssl.methods.batch import Batch
from tests.support.training import MakeRecord, numbers, outcome, stop_and_resume

pytestmark = pytest.mark.e2e

PER_EPOCH = 1293 // 64


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loss of every step, and with it how many there were."""
    seen: list[float] = []
    update = train.Trainer.update

    def spy(self: train.Trainer, batch: Batch) -> None:
        before = float(self.loss_sum)
        update(self, batch)
        seen.append(float(self.loss_sum) - before)

    monkeypatch.setattr(train.Trainer, "update", spy)
    return seen


def test_training_ends_after_exactly_so_many_steps(make_record: MakeRecord, losses: list[float]) -> None:
    record = make_record(steps=PER_EPOCH + 7, epochs=2, every=5)
    run_cell(record)
    assert outcome(record).steps == len(losses) == PER_EPOCH + 7
    events = record.events()
    assert [(event.step, event.epoch) for event in events] == [(0, 0), (PER_EPOCH, 1), (PER_EPOCH + 7, 2)]
    assert ["val_knn" in event.metrics for event in events] == [True, False, True], "the last one is evaluated"
    means = [sum(losses[:PER_EPOCH]) / PER_EPOCH, sum(losses[PER_EPOCH:]) / 7]
    assert [event.metrics["loss"] for event in events[1:]] == pytest.approx(means, rel=1e-12)


def test_as_many_steps_as_epochs_have_are_the_same_training(make_record: MakeRecord) -> None:
    by_epochs, by_steps = make_record("epochs"), make_record("steps", steps=2 * PER_EPOCH)
    assert by_epochs.cell_id != by_steps.cell_id
    run_cell(by_epochs)
    run_cell(by_steps)
    assert numbers(by_epochs) == numbers(by_steps)


def test_the_learning_rate_falls_over_the_steps(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    update = train.Trainer.update

    def spy(self: train.Trainer, batch: Batch) -> None:
        rates.append(self.lr_at(self.step))
        update(self, batch)

    monkeypatch.setattr(train.Trainer, "update", spy)
    record = make_record(steps=10, epochs=1)
    run_cell(record)
    peak = optim.peak_lr(record.cell().optimizer, 64)
    assert rates == [optim.lr_at(Optimizer(), step, 10, 0, peak) for step in range(10)]
    assert rates[-1] < 0.05 * rates[0]


def moved(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, optimizer: Optimizer) -> float:
    """How far the first step moves the weights."""
    distances = []
    update = train.Trainer.update

    def spy(self: train.Trainer, batch: Batch) -> None:
        before = [parameter.detach().clone() for parameter in self.network.parameters()]
        update(self, batch)
        steps = [now.detach() - old for now, old in zip(self.network.parameters(), before, strict=True)]
        distances.append(float(torch.nn.utils.get_total_norm(steps)))

    monkeypatch.setattr(train.Trainer, "update", spy)
    run_cell(make_record(f"clipped at {optimizer.clip_norm}", steps=1, epochs=1, optimizer=optimizer))
    return distances[0]


def test_the_gradient_is_clipped_at_the_declared_norm(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Optimizer(lr=1.0, lr_rule="constant", momentum=0.0, weight_decay=0.0)
    whole = moved(make_record, monkeypatch, plain)
    half = moved(make_record, monkeypatch, replace(plain, clip_norm=whole / 2))
    more = moved(make_record, monkeypatch, replace(plain, clip_norm=whole * 2))
    assert half == pytest.approx(whole / 2, rel=1e-4)
    assert more == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("last_step", [3, PER_EPOCH, PER_EPOCH + 4, PER_EPOCH + 6, PER_EPOCH + 7])
def test_a_stop_at_any_step_resumes_to_the_same_bits(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, last_step: int
) -> None:
    of_steps = {"steps": PER_EPOCH + 7, "epochs": 2}
    calm, stopped = make_record("calm", **of_steps), make_record("stopped", **of_steps)
    run_cell(calm)
    stop_and_resume(stopped, last_step, monkeypatch)
    assert numbers(stopped) == numbers(calm)
    assert [event.step for event in stopped.events()] == [0, PER_EPOCH, PER_EPOCH + 7]
