"""The methods, one file each: they say what is encoded and what is compared with what."""

from __future__ import annotations

from harness.cell import Cell
from harness.ssl.distributed import World
from harness.ssl.methods.base import TrainingMethod
from harness.ssl.methods.moco import MoCo
from harness.ssl.methods.nnclr import NNCLR
from harness.ssl.methods.simclr import SimCLR
from harness.ssl.methods.simo import SiMo
from harness.ssl.models import Network, batchnorm

#: The class of each method of the catalogue.
CLASSES: dict[str, type[TrainingMethod]] = {"simclr": SimCLR, "moco": MoCo, "simo": SiMo, "nnclr": NNCLR}


def build(cell: Cell, network: Network, samples: int, world: World, micro_batches: int = 1) -> TrainingMethod:
    """Return the cell's method around its network, with its batch-norm groups.

    Args:
        cell: with its method and loss.
        network: encoder and projector with their initial weights.
        samples: the number of training images.
        world: the ranks that train together.
        micro_batches: in how many of them each rank's samples of a batch pass the network.
    """
    method = CLASSES[cell.method.name](cell, network, samples, world)
    batchnorm.group(method, cell.bn_groups, world, micro_batches)
    return method
