"""Names, parameters, ranges and versions of losses, methods, backbones and data sets; no torch.

A component's ``version`` is part of every identity that uses it. Raise it by hand when the component's
numbers change: cells trained before then no longer stand for the declared ones.
"""

from __future__ import annotations

from dataclasses import dataclass

INFINITY = float("inf")


@dataclass(frozen=True)
class Range:
    """An open interval ``low < value < high`` and the value taken where none is declared."""

    low: float
    high: float
    default: float

    def __contains__(self, value: float) -> bool:
        return self.low < value < self.high

    def __str__(self) -> str:
        return f"{self.low:g} < value" if self.high == INFINITY else f"{self.low:g} < value < {self.high:g}"


@dataclass(frozen=True)
class LossEntry:
    """A loss as users know it; ``label`` is its name in tables and plots."""

    label: str
    paper: str
    equation: str
    parameters: dict[str, Range]
    version: int = 1


@dataclass(frozen=True)
class DatasetEntry:
    """A data set; ``channels``, ``size``, ``train`` and ``test`` are None where only its files tell."""

    label: str
    channels: int | None = None
    size: int | None = None
    train: int | None = None
    test: int | None = None


@dataclass(frozen=True)
class BackboneEntry:
    """An encoder; ``sizes`` are the image sides it accepts (smallest, largest)."""

    label: str
    sizes: tuple[int, int]
    version: int = 1


TEMPERATURE = Range(0.0, INFINITY, 0.1)

LOSSES = {
    "infonce": LossEntry(
        label="InfoNCE",
        paper="Chen et al. 2020, arXiv 2002.05709 (NT-Xent)",
        equation="LSE(p, n) - p",
        parameters={"temperature": TEMPERATURE},
    ),
    "dcl": LossEntry(
        label="DCL",
        paper="Yeh et al. 2022, arXiv 2110.06848, eq. 6",
        equation="LSE(n) - p",
        parameters={"temperature": TEMPERATURE},
    ),
    "dclw": LossEntry(
        label="DCLW",
        paper="Yeh et al. 2022, arXiv 2110.06848 (weights detached)",
        equation="LSE(n) - w p,  w_i = 2 - N softmax_i(<z1, z2> / sigma)",
        parameters={"temperature": TEMPERATURE, "sigma": Range(0.0, INFINITY, 0.5)},
    ),
}

METHODS = {"simclr": 1}

BACKBONES = {
    "resnet18": BackboneEntry(label="ResNet-18 (3x3 stem, no max-pool)", sizes=(16, 96)),
    "convnet": BackboneEntry(label="four-layer conv net", sizes=(8, 64)),
}

DATASETS = {
    "digits": DatasetEntry("scikit-learn digits", channels=1, size=8, train=1437, test=360),
    "fashion_mnist": DatasetEntry("Fashion-MNIST", channels=1, size=28, train=60_000, test=10_000),
    "cifar10": DatasetEntry("CIFAR-10", channels=3, size=32, train=50_000, test=10_000),
    "imagefolder": DatasetEntry("image folder", channels=3),
}

OPTIMIZERS = ("sgd",)
LR_RULES = ("constant", "linear", "sqrt")
PRECISIONS = ("fp32", "bf16")

# Numbers also depend on how data are read, how views are drawn and how the loop steps.
VIEWS_VERSION = 1
TRAINING_VERSION = 1
