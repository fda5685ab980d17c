"""The optimiser and its learning rate, a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.nn import Parameter

from harness.cell import Optimizer

REFERENCE_BATCH = 256


def peak_lr(optimizer: Optimizer, batch_size: int) -> float:
    """``lr`` is declared at batch 256; the rule carries it to other batch sizes."""
    ratio = batch_size / REFERENCE_BATCH
    return optimizer.lr * {"constant": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[optimizer.lr_rule]


def lr_at(step: int, steps: int, warmup_steps: int, peak: float) -> float:
    """Linear warm-up to ``peak``, then half a cosine down to zero at ``steps``."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def sgd(optimizer: Optimizer, parameters: Iterable[Parameter]) -> torch.optim.SGD:
    """SGD with momentum; weight decay on every parameter, as torch does it. The loop sets ``lr`` at each step."""
    return torch.optim.SGD(parameters, lr=0.0, momentum=optimizer.momentum, weight_decay=optimizer.weight_decay)
