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


def lr_at(step: int, steps: int, warmup_steps: int, peak: float) -> float:
    """Return the rate of a step: linear warm-up to ``peak``, then half a cosine down to zero at ``steps``."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))
