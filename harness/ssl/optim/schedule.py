"""The learning rate, a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

from harness.cell import Optimizer

REFERENCE_BATCH = 256

#: How each rule of the catalogue scales the rate with the ratio of the batch size to the reference's.
LR_SCALES: dict[str, Callable[[float], float]] = {
    "constant": lambda ratio: 1.0,
    "linear": lambda ratio: ratio,
    "sqrt": math.sqrt,
}


def peak_lr(optimizer: Optimizer, batch_size: int) -> float:
    """Return the learning rate, declared at batch 256, as its rule carries it to this batch size."""
    return optimizer.lr * LR_SCALES[optimizer.lr_rule](batch_size / REFERENCE_BATCH)


def warmup_steps(optimizer: Optimizer, steps_per_epoch: int) -> int:
    """Return the number of steps of the warm-up."""
    if optimizer.warmup_steps is not None:
        return optimizer.warmup_steps
    return round(optimizer.warmup_epochs * steps_per_epoch)


def lr_at(optimizer: Optimizer, step: int, steps: int, warmup: int, peak: float) -> float:
    """Return the rate of a step of ``steps``: ``warmup`` steps of linear warm-up to ``peak``, then the schedule."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * SHAPES[optimizer.schedule](optimizer, step, steps, warmup)


def half_cosine(step: int, steps: int) -> float:
    """Return half a cosine from 1 at step 0 down to 0 at ``steps`` (Loshchilov and Hutter 2017, arXiv 1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))


def _cosine(optimizer: Optimizer, step: int, steps: int, warmup: int) -> float:
    return optimizer.lr_end + (1 - optimizer.lr_end) * half_cosine(step - warmup, steps - warmup)


def _constant(optimizer: Optimizer, step: int, steps: int, warmup: int) -> float:
    return 1.0


def _step(optimizer: Optimizer, step: int, steps: int, warmup: int) -> float:
    """A tenth after 60 % of all steps and a hundredth after 80 %, as MoCo's first version trains (arXiv 1911.05722)."""
    return 0.1 ** ((5 * step >= 3 * steps) + (5 * step >= 4 * steps))


#: The part of the peak rate that each schedule of the catalogue gives to a step after the warm-up.
SHAPES: dict[str, Callable[[Optimizer, int, int, int], float]] = {
    "cosine": _cosine,
    "constant": _constant,
    "step": _step,
}
