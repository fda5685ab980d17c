"""SGD with momentum and weight decay."""

from __future__ import annotations

import torch

from harness.cell import Optimizer
from harness.ssl.optim.groups import Groups


def build(optimizer: Optimizer, groups: Groups) -> torch.optim.Optimizer:
    """Return torch's SGD, in one kernel for all parameters."""
    return torch.optim.SGD(groups, lr=0.0, momentum=optimizer.momentum, weight_decay=optimizer.weight_decay, fused=True)
