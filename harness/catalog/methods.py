"""The training methods: their names, papers and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.catalog.parameters import Count, Flag, Parameter, Range
from harness.cell import Method


@dataclass(frozen=True)
class MethodEntry:
    """A method as users know it.

    ``every_loss``: whether it takes also losses whose negatives are not pairs; ``both_views``: whether its networks
    encode both views of a sample, so that batch norm's statistics may be of both.
    """

    label: str
    paper: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    every_loss: bool = False
    both_views: bool = False
    version: int = 1


METHODS = {
    "simclr": MethodEntry(
        label="SimCLR",
        paper="Chen et al. 2020, arXiv 2002.05709; with their losses VICReg and Barlow Twins: both views through one "
        "network, in one pass or in two (bn_passes)",
        every_loss=True,
        both_views=True,
    ),
    "moco": MethodEntry(
        label="MoCo v2",
        paper="Chen et al. 2020, arXiv 2003.04297",
        parameters={
            "queue": Count(1, 65536),
            "ema": Range(0.0, 1.0, 0.999, closed=True),
            "symmetric": Flag(False),
            "shuffle": Flag(True),
        },
    ),
    "simo": MethodEntry(
        label="SiMo",
        paper="Zhu et al. 2020, arXiv 2010.01929",
        parameters={"ema": Range(0.0, 1.0, 0.999, closed=True), "negatives": Count(1, 256)},
    ),
    "nnclr": MethodEntry(
        label="NNCLR",
        paper="Dwibedi et al. 2021, arXiv 2104.14548",
        parameters={"queue": Count(1, 98304), "predictor": Count(1, 4096)},
        both_views=True,
    ),
}


def encodes_both_views(method: Method) -> bool:
    """Whether one network encodes both views of a sample: in MoCo, where both directions are compared."""
    return METHODS[method.name].both_views or bool(method.symmetric)
