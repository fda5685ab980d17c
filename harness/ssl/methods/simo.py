"""SiMo (Zhu et al. 2020, arXiv 2010.01929): MoCo v2 without the queue; the negatives are other keys of the batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from harness.cell import Cell
from harness.ssl.distributed import World
from harness.ssl.losses.pairs import cross_view
from harness.ssl.methods.base import TrainingMethod
from harness.ssl.methods.batch import Batch, Comparison, gathered, l2_normalize
from harness.ssl.methods.micro_batches import encode_in_micro_batches
from harness.ssl.methods.moco import ema_update
from harness.ssl.models import Network


class SiMo(TrainingMethod):
    """View 1 are queries, view 2 are keys of the averaged encoder, one direction.

    ``negatives``: K of the N - 1 other keys, drawn once a step, the same positions for every query (the authors' code);
    all of them if there are no more. Keys take synchronised batch norm in the paper: ``bn_groups: 1``.
    """

    def __init__(self, cell: Cell, network: Network, samples: int, world: World) -> None:
        super().__init__(cell, network, samples, world)
        assert cell.method.negatives is not None
        assert cell.method.ema is not None
        self.keys = copy.deepcopy(network).requires_grad_(False)
        self.ema, self.negatives = cell.method.ema, cell.method.negatives

    def forward(self, views: Tensor) -> Sequence[Tensor]:
        """Return the queries (k, d) of the first views."""
        return (self.network(views[0], views=1),)

    @torch.no_grad()
    def targets(self, batch: Batch) -> Sequence[Tensor]:
        """Return the keys (n, d) of this rank's second views, from the network of the keys."""
        return encode_in_micro_batches(self.keys, batch, lambda slice_: (self.keys(batch.views(slice_)[1], views=1),))

    def compare(self, embeddings: Sequence[Tensor], targets: Sequence[Tensor], batch: Batch) -> Comparison:
        """Return the loss of queries with keys against some of the batch's other keys, drawn anew at every step."""
        (q,) = gathered(*embeddings)
        (k,) = gathered(*targets)
        others = len(batch.rows) - 1
        columns = batch.random_order("columns", others)[: self.negatives] if self.negatives < others else None
        pairs = partial(cross_view, columns=columns)
        first, second = l2_normalize(q), l2_normalize(k)
        return Comparison(self.loss(first, second, pairs=pairs), first, second, pairs)

    @torch.no_grad()
    def after_step(self, batch: Batch, comparison: Comparison) -> None:
        """The key encoder follows the network."""
        ema_update(self.keys, self.network, self.ema)
