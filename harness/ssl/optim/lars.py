"""LARS: layer-wise adaptive rate scaling (You et al. 2017, arXiv 1708.03888)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.cell import Optimizer
from harness.ssl.optim.groups import Groups, decays_vectors

#: The trust coefficient where none is declared, that of VICReg's and Barlow Twins' code.
TRUST = 0.001


def build(optimizer: Optimizer, groups: Groups) -> torch.optim.Optimizer:
    """Return LARS with the declared settings."""
    return LARS(
        groups,
        lr=0.0,
        momentum=optimizer.momentum,
        weight_decay=optimizer.weight_decay,
        trust=TRUST if optimizer.trust is None else optimizer.trust,
        clip_lr=bool(optimizer.clip_lr),
        decay_vectors=decays_vectors(optimizer),
    )


class LARS(torch.optim.Optimizer):
    """LARS as VICReg's and Barlow Twins' code has it.

    Every weight matrix or kernel w takes ``v <- momentum v + r (g + wd w)``, ``w <- w - lr v``, with the ratio
    ``r = trust |w| / |g + wd w|``, which counts as 1 where a norm is zero. Biases and batch norm (one dimension) have
    no ratio, and no weight decay unless ``decay_vectors``.

    With ``clip_lr``, r becomes ``min(r / lr, 1)``, so that a weight moves by no more than SGD would move it, as in
    solo-learn's code (whose ratio has ``|g| + wd |w|`` below the line).
    """

    def __init__(
        self,
        groups: Groups,
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        trust: float,
        clip_lr: bool,
        decay_vectors: bool,
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.trust, self.clip_lr, self.decay_vectors = trust, clip_lr, decay_vectors

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure: the loop has the loss
        """Update every parameter that has a gradient, as the class says."""
        for settings in self.param_groups:
            trained = [parameter for parameter in settings["params"] if parameter.grad is not None]
            matrices = [parameter for parameter in trained if parameter.ndim > 1]
            vectors = [parameter for parameter in trained if parameter.ndim <= 1]
            gradients = self._adapted(matrices, [p.grad for p in matrices], settings["weight_decay"], settings["lr"])
            of_vectors = [p.grad for p in vectors]
            if self.decay_vectors and vectors:
                of_vectors = list(torch._foreach_add(of_vectors, vectors, alpha=settings["weight_decay"]))
            self._update(
                [*matrices, *vectors],
                [*gradients, *of_vectors],
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

    def _adapted(
        self, parameters: list[Tensor], gradients: list[Tensor], weight_decay: float, lr: float
    ) -> list[Tensor]:
        """Return LARS's gradients of weights, computed together: one by one takes hundreds of small kernels a step."""
        if not parameters:
            return []
        decayed = torch._foreach_add(gradients, parameters, alpha=weight_decay)
        lengths, of_gradients = (torch.stack(torch._foreach_norm(tensors)) for tensors in (parameters, decayed))
        known = (lengths > 0) & (of_gradients > 0)
        ratios = self.trust * lengths / of_gradients
        if self.clip_lr:
            ratios = (ratios / lr).clamp(max=1.0)
        return list(torch._foreach_mul(decayed, list(torch.where(known, ratios, 1.0).unbind())))
