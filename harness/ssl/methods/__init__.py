"""Methods: what is encoded and what is compared with what."""

from __future__ import annotations

from harness.cell import Cell
from harness.ssl.distributed import World
from harness.ssl.methods.moco import MoCo
from harness.ssl.methods.nnclr import NNCLR
from harness.ssl.methods.simclr import SimCLR
from harness.ssl.methods.simo import SiMo
from harness.ssl.models import Network, batchnorm

Method = SimCLR | MoCo | SiMo | NNCLR


def build(cell: Cell, network: Network, samples: int, world: World, parts: int = 1) -> Method:
    """The cell's method around its network, with its batch-norm groups.

    A method's ``forward`` makes embeddings with a graph of the views (2, k, C, H, W) of some samples, ``targets``
    those without of the whole batch, ``compare`` the loss of both, and ``after_step`` keeps what the next step needs.

    Args:
        samples: the number of training images.
        parts: micro-batches that each rank's share of a batch passes the network in.
    """
    name = cell.method.name
    method: Method
    if name == "moco":
        method = MoCo(cell, network, world)
    elif name == "simclr":
        method = SimCLR(cell, network, samples)
    elif name == "simo":
        method = SiMo(cell, network)
    else:
        method = NNCLR(cell, network)
    batchnorm.group(method, cell.bn_groups, world, parts)
    return method
