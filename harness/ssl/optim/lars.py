"""LARS: layer-wise adaptive rate scaling (You et al. 2017, arXiv 1708.03888)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

from harness.cell import Optimizer

#: The trust coefficient, in the public code of all these methods.
TRUST = 0.001


def build(optimizer: Optimizer, parameters: list[Parameter]) -> torch.optim.Optimizer:
    """Return LARS with the declared momentum and weight decay."""
    return LARS(parameters, lr=0.0, momentum=optimizer.momentum, weight_decay=optimizer.weight_decay)


class LARS(torch.optim.Optimizer):
    """LARS as VICReg's and Barlow Twins' code has it.

    Every weight matrix or kernel w takes ``v <- momentum v + (TRUST |w| / |g + wd w|) (g + wd w)``, ``w <- w - lr v``;
    a ratio with a norm that is zero counts as 1. Biases and batch norm (one dimension) are left out of both the
    adaptation and the weight decay.
    """

    def __init__(self, parameters: Iterable[Parameter], *, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure: the loop has the loss
        """Update every parameter that has a gradient, as the class says."""
        for settings in self.param_groups:
            trained = [parameter for parameter in settings["params"] if parameter.grad is not None]
            matrices = [parameter for parameter in trained if parameter.ndim > 1]
            vectors = [parameter for parameter in trained if parameter.ndim <= 1]
            gradients = _adapted(matrices, [p.grad for p in matrices], settings["weight_decay"])
            self._update(
                [*matrices, *vectors],
                [*gradients, *[p.grad for p in vectors]],
                momentum=settings["momentum"],
                lr=settings["lr"],
            )

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], *, momentum: float, lr: float) -> None:
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        velocities = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, gradients)
        torch._foreach_add_(parameters, velocities, alpha=-lr)


def _adapted(parameters: list[Tensor], gradients: list[Tensor], weight_decay: float) -> list[Tensor]:
    """Return LARS's gradients of weights, computed together: one by one takes hundreds of small kernels a step."""
    decayed = torch._foreach_add(gradients, parameters, alpha=weight_decay)
    lengths, of_gradients = (torch.stack(torch._foreach_norm(tensors)) for tensors in (parameters, decayed))
    known = (lengths > 0) & (of_gradients > 0)
    ratios = torch.where(known, TRUST * lengths / of_gradients, 1.0)
    return list(torch._foreach_mul(decayed, list(ratios.unbind())))
