"""The training methods: their names, papers and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.catalog.parameters import Count, Flag, Parameter, Range


@dataclass(frozen=True)
class MethodEntry:
    """A method as users know it; ``every_loss``: whether it takes also losses whose negatives are not pairs."""

    label: str
    paper: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    every_loss: bool = False
    version: int = 1


METHODS = {
    "simclr": MethodEntry(
        label="SimCLR",
        paper="Chen et al. 2020, arXiv 2002.05709; with their losses VICReg and Barlow Twins: both views through one "
        "network in one pass",
        every_loss=True,
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
    ),
}
