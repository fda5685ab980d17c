"""SGD with momentum and weight decay on every parameter."""

from __future__ import annotations

import torch
from torch.nn import Parameter

from harness.cell import Optimizer


def build(optimizer: Optimizer, parameters: list[Parameter]) -> torch.optim.Optimizer:
    """Return torch's SGD, in one kernel for all parameters."""
    return torch.optim.SGD(
        parameters, lr=0.0, momentum=optimizer.momentum, weight_decay=optimizer.weight_decay, fused=True
    )
