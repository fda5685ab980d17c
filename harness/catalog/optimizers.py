"""The optimisers, their schedules of the learning rate, and which of the optional settings each one has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class OptimizerEntry:
    """An optimiser as users know it.

    ``own``: those of the settings in ``OWN_SETTINGS`` that it has; ``decays_all``: whether weight decay acts also on
    biases and norms, unless ``decay_all`` says otherwise.
    """

    label: str
    own: tuple[str, ...] = ()
    decays_all: bool = True


#: The fields of ``harness.cell.Optimizer`` that not every optimiser has.
OWN_SETTINGS = ("trust", "clip_lr", "bias_lr", "beta2")

OPTIMIZERS: Mapping[str, OptimizerEntry] = {
    "sgd": OptimizerEntry("SGD", own=("bias_lr",)),
    "lars": OptimizerEntry("LARS", own=("trust", "clip_lr", "bias_lr"), decays_all=False),
    "adam": OptimizerEntry("Adam", own=("beta2",)),
    "adamw": OptimizerEntry("AdamW", own=("beta2",)),
}

#: How the rate goes on after the warm-up, in words that end the sentence "then ...".
SCHEDULES: Mapping[str, str] = {
    "cosine": "half a cosine",
    "constant": "a constant rate",
    "step": "a tenth of the rate after 60 % of the steps and a hundredth after 80 %",
}
