"""The learning rate as a function of step and batch size, and the steps that take it."""

from __future__ import annotations

import math

import pytest
import torch

from harness.cell import Optimizer
from harness.ssl.optim import build
from harness.ssl.optim.lars import TRUST
from harness.ssl.optim.schedule import lr_at, peak_lr


@pytest.mark.parametrize(("rule", "expected"), [("constant", 0.1), ("linear", 0.0125), ("sqrt", 0.1 * 0.125**0.5)])
def test_rules_carry_the_rate_from_batch_256_to_32(rule: str, expected: float) -> None:
    assert peak_lr(Optimizer(lr=0.1, lr_rule=rule), 32) == pytest.approx(expected)


def test_warm_up_then_cosine_to_zero() -> None:
    rates = [lr_at(step, steps=100, warmup_steps=10, peak=1.0) for step in range(101)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)


def test_lars_takes_the_reference_step() -> None:
    # By hand, in plain floats: v <- m v + trust |w| / |g + wd w| (g + wd w), w <- w - lr v; vectors without both.
    weight, bias = torch.nn.Parameter(torch.tensor([[3.0, 4.0]])), torch.nn.Parameter(torch.tensor([2.0]))
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    lars = build(Optimizer("lars", momentum=0.9, weight_decay=0.1), [weight, bias, frozen])
    lars.param_groups[0]["lr"] = 0.5
    w, b, v, u = [3.0, 4.0], 2.0, [0.0, 0.0], 0.0
    for gradient in ([0.7, -0.4], [0.1, 0.3]):
        weight.grad, bias.grad = torch.tensor([gradient]), torch.tensor([5.0])
        lars.step()
        decayed = [g + 0.1 * x for g, x in zip(gradient, w, strict=True)]
        ratio = TRUST * math.hypot(*w) / math.hypot(*decayed)
        v = [0.9 * old + ratio * g for old, g in zip(v, decayed, strict=True)]
        w = [x - 0.5 * step for x, step in zip(w, v, strict=True)]
        u = 0.9 * u + 5.0
        b -= 0.5 * u
    assert weight.tolist()[0] == pytest.approx(w)
    assert bias.item() == pytest.approx(b)
    assert frozen.tolist() == [1.0, 1.0]


def test_lars_moves_a_weight_of_norm_zero() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    lars = build(Optimizer("lars", momentum=0.0, weight_decay=0.0), [weight])
    lars.param_groups[0]["lr"] = 1.0
    weight.grad = torch.ones(2, 2)
    lars.step()
    assert torch.equal(weight, -torch.ones(2, 2))
