"""The learning rate as a function of step and batch size, and the steps that take it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.cell import Optimizer
from harness.ssl.optim import build
from harness.ssl.optim.lars import TRUST
from harness.ssl.optim.schedule import lr_at, peak_lr, warmup_steps


@pytest.mark.parametrize(("rule", "expected"), [("constant", 0.1), ("linear", 0.0125), ("sqrt", 0.1 * 0.125**0.5)])
def test_rules_carry_the_rate_from_batch_256_to_32(rule: str, expected: float) -> None:
    assert peak_lr(Optimizer(lr=0.1, lr_rule=rule), 32) == pytest.approx(expected)


def test_warm_up_then_cosine_to_zero() -> None:
    rates = [lr_at(Optimizer(), step, steps=100, warmup=10, peak=1.0) for step in range(101)]
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


def rates(steps: int = 100, warmup: int = 10, **settings: Any) -> list[float]:
    return [lr_at(Optimizer(**settings), step, steps, warmup, peak=2.0) for step in range(steps + 1)]


def test_a_cosine_ends_at_its_floor() -> None:
    """As VICReg's and Barlow Twins' codes have it: ``q`` of the rate and ``1 - q`` of its end."""
    q = [0.5 * (1 + math.cos(math.pi * step / 90)) for step in range(91)]
    assert rates(lr_end=0.001)[10:] == pytest.approx([2.0 * one + 2.0 * 0.001 * (1 - one) for one in q])


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    assert rates(schedule="constant")[10:] == [2.0] * 91
    assert rates(schedule="constant", warmup=0) == [2.0] * 101


def test_a_stepped_rate_falls_to_a_tenth_at_60_and_at_80_per_cent() -> None:
    found = rates(schedule="step", warmup=0)
    assert found[:60] == [2.0] * 60
    assert found[60:80] == pytest.approx([0.2] * 20)
    assert found[80:] == pytest.approx([0.02] * 21)


def test_the_warm_up_is_in_epochs_or_in_steps() -> None:
    assert warmup_steps(Optimizer(warmup_epochs=1.5), 7) == 10
    assert warmup_steps(Optimizer(warmup_steps=3), 7) == 3
    assert warmup_steps(Optimizer(warmup_steps=0), 7) == 0


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)).double()


def stepped(optimizer: torch.optim.Optimizer, net: nn.Module, rate: float) -> list[Tensor]:
    """The weights after three steps on fixed gradients, as the loop takes them."""
    generator = torch.Generator().manual_seed(1)
    for number in range(3):
        for group in optimizer.param_groups:
            group["lr"] = rate * (number + 1) * group.get("lr_scale", 1.0)
        for parameter in net.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        optimizer.step()
    return [parameter.detach().clone() for parameter in net.parameters()]


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
@pytest.mark.parametrize("beta2", [None, 0.98])
def test_adam_is_torchs(name: str, kind: type[torch.optim.Adam], beta2: float | None) -> None:
    ours, theirs = network(), network()
    declared = Optimizer(name, momentum=0.8, weight_decay=0.1, beta2=beta2)
    reference = kind(theirs.parameters(), lr=0.0, betas=(0.8, beta2 or 0.999), weight_decay=0.1, foreach=False)
    for one, other in zip(
        stepped(build(declared, ours.parameters()), ours, 0.01), stepped(reference, theirs, 0.01), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_weight_decay_leaves_biases_and_norms_out_where_that_is_declared(name: str) -> None:
    ours, decayed, free = network(), network(), network()
    found = stepped(build(Optimizer(name, weight_decay=0.1, decay_all=False), ours.parameters()), ours, 0.01)
    with_decay = stepped(build(Optimizer(name, weight_decay=0.1), decayed.parameters()), decayed, 0.01)
    without = stepped(build(Optimizer(name, weight_decay=0.0), free.parameters()), free, 0.01)
    for tensor, one, other in zip(found, with_decay, without, strict=True):
        assert torch.equal(tensor, one if tensor.ndim > 1 else other)
        assert not torch.equal(one, other)


@pytest.mark.parametrize("name", ["sgd", "lars"])
def test_biases_and_norms_have_a_rate_of_their_own_where_that_is_declared(name: str) -> None:
    ours, plain, slow = network(), network(), network()
    found = stepped(build(Optimizer(name, lr=0.2, bias_lr=0.05), ours.parameters()), ours, 0.01)
    expected = stepped(build(Optimizer(name), plain.parameters()), plain, 0.01)
    quarter = stepped(build(Optimizer(name), slow.parameters()), slow, 0.0025)
    for tensor, one, other in zip(found, expected, quarter, strict=True):
        torch.testing.assert_close(tensor, one if tensor.ndim > 1 else other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gradient", [0.3, 30.0])
def test_lars_clips_its_ratio_at_the_rate(gradient: float) -> None:
    """By hand in plain floats, with one gradient whose ratio is clipped and one whose ratio is not."""
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    declared = Optimizer("lars", momentum=0.0, weight_decay=0.0, trust=0.02, clip_lr=True)
    lars = build(declared, [weight])
    lars.param_groups[0]["lr"] = 0.1
    weight.grad = torch.tensor([[gradient, 0.0]], dtype=torch.float64)
    lars.step()
    ratio = min(0.02 * 5.0 / gradient / 0.1, 1.0)
    assert (ratio == 1.0) == (gradient == 0.3)
    assert weight.tolist()[0] == pytest.approx([3.0 - 0.1 * ratio * gradient, 4.0], abs=1e-15)


def test_lars_decays_vectors_only_where_that_is_declared() -> None:
    for decay_all, expected in ((None, 2.0 - 0.5 * 5.0), (True, 2.0 - 0.5 * (5.0 + 0.1 * 2.0))):
        bias = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
        lars = build(Optimizer("lars", momentum=0.0, weight_decay=0.1, decay_all=decay_all), [bias])
        lars.param_groups[0]["lr"] = 0.5
        bias.grad = torch.tensor([5.0], dtype=torch.float64)
        lars.step()
        assert bias.item() == pytest.approx(expected, abs=1e-15)
