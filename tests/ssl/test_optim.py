"""The learning rate as a function of step and batch size."""

from __future__ import annotations

import pytest

from harness.cell import Optimizer
from harness.ssl.optim import lr_at, peak_lr


@pytest.mark.parametrize(("rule", "expected"), [("constant", 0.1), ("linear", 0.0125), ("sqrt", 0.1 * 0.125**0.5)])
def test_rules_carry_the_rate_from_batch_256_to_32(rule: str, expected: float) -> None:
    assert peak_lr(Optimizer(lr=0.1, lr_rule=rule), 32) == pytest.approx(expected)


def test_warm_up_then_cosine_to_zero() -> None:
    rates = [lr_at(step, steps=100, warmup_steps=10, peak=1.0) for step in range(101)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
