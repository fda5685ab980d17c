"""The optimisers, one file each, and their learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch.nn import Parameter

from harness.cell import Optimizer
from harness.ssl.optim import adam, lars, sgd
from harness.ssl.optim.groups import Groups, groups
from harness.ssl.optim.schedule import lr_at, peak_lr, warmup_steps

__all__ = ["BUILDERS", "build", "lr_at", "peak_lr", "warmup_steps"]

#: How each optimiser of the catalogue is made for these groups of parameters; the loop sets ``lr`` at each step.
BUILDERS: dict[str, Callable[[Optimizer, Groups], torch.optim.Optimizer]] = {
    "sgd": sgd.build,
    "lars": lars.build,
    "adam": adam.adam,
    "adamw": adam.adamw,
}


def build(optimizer: Optimizer, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
    """Return the declared optimiser of those parameters that are trained."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return BUILDERS[optimizer.name](optimizer, groups(optimizer, trained))
