"""The optimisers and their learning rate, a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from harness.cell import Optimizer

REFERENCE_BATCH = 256
#: LARS's trust coefficient, in all public recipes of these methods.
TRUST = 0.001


def peak_lr(optimizer: Optimizer, batch_size: int) -> float:
    """``lr`` is declared at batch 256; the rule carries it to other batch sizes."""
    ratio = batch_size / REFERENCE_BATCH
    return optimizer.lr * {"constant": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[optimizer.lr_rule]


def lr_at(step: int, steps: int, warmup_steps: int, peak: float) -> float:
    """Linear warm-up to ``peak``, then half a cosine down to zero at ``steps``."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def build(optimizer: Optimizer, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
    """SGD with momentum and weight decay on every parameter, as torch does it, or LARS. The loop sets ``lr`` at each
    step."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    kind: type[torch.optim.SGD | LARS] = {"sgd": torch.optim.SGD, "lars": LARS}[optimizer.name]
    return kind(trained, lr=0.0, momentum=optimizer.momentum, weight_decay=optimizer.weight_decay)


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv 1708.03888), as VICReg's and Barlow Twins' code has it.

    Every weight matrix or kernel w takes ``v <- momentum v + (TRUST |w| / |g + wd w|) (g + wd w)``, ``w <- w - lr v``;
    a ratio of norms that are zero counts as 1. Biases and batch norm (one dimension) are left out of both the
    adaptation and the weight decay.
    """

    def __init__(self, parameters: Iterable[Parameter], *, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure: the loop has the loss
        for settings in self.param_groups:
            for parameter in settings["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, settings)

    def _update(self, parameter: Tensor, gradient: Tensor, settings: dict[str, Any]) -> None:
        if parameter.ndim > 1:
            gradient = gradient + settings["weight_decay"] * parameter
            length, of_gradient = parameter.norm(), gradient.norm()
            adapted = TRUST * length / of_gradient
            gradient = gradient * torch.where((length > 0) & (of_gradient > 0), adapted, 1.0)
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].mul_(settings["momentum"]).add_(gradient)
        parameter.add_(state["momentum"], alpha=-settings["lr"])
