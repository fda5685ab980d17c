"""The groups of parameters that an optimiser treats alike: weights, and the vectors, which are biases and norms."""

from __future__ import annotations

from collections.abc import Sequence

from torch.nn import Parameter

from harness.catalog.optimizers import OPTIMIZERS
from harness.cell import Optimizer

#: Parameters with settings of their own, as torch's optimisers take them.
Group = dict[str, list[Parameter] | float]
Groups = Sequence[Parameter] | Sequence[Group]


def decays_vectors(optimizer: Optimizer) -> bool:
    """Whether weight decay acts on biases and norms, too."""
    return OPTIMIZERS[optimizer.name].decays_all if optimizer.decay_all is None else optimizer.decay_all


def groups(optimizer: Optimizer, parameters: Sequence[Parameter]) -> Groups:
    """Return the parameters, in one group unless the vectors have a weight decay or a rate of their own.

    The loop multiplies the learning rate of each step by a group's ``lr_scale``.
    """
    undecayed = OPTIMIZERS[optimizer.name].decays_all and not decays_vectors(optimizer)
    if optimizer.bias_lr is None and not undecayed:
        return parameters
    weights: Group = {"params": [parameter for parameter in parameters if parameter.ndim > 1]}
    vectors: Group = {"params": [parameter for parameter in parameters if parameter.ndim <= 1]}
    if optimizer.bias_lr is not None:
        vectors["lr_scale"] = optimizer.bias_lr / optimizer.lr
    if undecayed:
        vectors["weight_decay"] = 0.0
    return [weights, vectors]
