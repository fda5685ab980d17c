"""Adam (Kingma and Ba 2015, arXiv 1412.6980) and AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), torch's own."""

from __future__ import annotations

from functools import partial

import torch

from harness.cell import Optimizer
from harness.ssl.optim.groups import Groups

#: The decay of the squared gradients' average where none is declared, that of both papers.
BETA2 = 0.999


def build(kind: type[torch.optim.Adam], optimizer: Optimizer, groups: Groups) -> torch.optim.Optimizer:
    """Return Adam or AdamW in one kernel for all parameters; ``momentum`` is its first beta."""
    beta2 = BETA2 if optimizer.beta2 is None else optimizer.beta2
    betas = (optimizer.momentum, beta2)
    return kind(groups, lr=0.0, betas=betas, weight_decay=optimizer.weight_decay, fused=True)


adam = partial(build, torch.optim.Adam)
adamw = partial(build, torch.optim.AdamW)
