"""MoCo v2 (He et al. 2020, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297): keys of an average of past encoders,
negatives from a queue of past keys."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from harness.cell import Cell
from harness.ssl.distributed import World, gather
from harness.ssl.losses.pairs import queued
from harness.ssl.methods.base import TrainingMethod
from harness.ssl.methods.batch import Batch, Comparison, gathered, l2_normalize
from harness.ssl.methods.micro_batches import encode_in_micro_batches
from harness.ssl.methods.queue import enqueue, random_unit_rows
from harness.ssl.models import Network


class MoCo(TrainingMethod):
    """View 1 are queries, view 2 are keys (``symmetric``: also the other way round, as a mean of both directions).

    Where batch norm has groups, a query and its key would share one, and its statistics tell them apart from the
    negatives: the keys are encoded in another order (``shuffle``, section 3.3 of MoCo).
    """

    queue: Tensor

    def __init__(self, cell: Cell, network: Network, samples: int, world: World) -> None:
        super().__init__(cell, network, samples, world)
        assert cell.method.queue is not None
        assert cell.method.ema is not None
        self.world = world
        self.keys = copy.deepcopy(network).requires_grad_(False)
        self.ema, self.symmetric = cell.method.ema, bool(cell.method.symmetric)
        self.shuffle = bool(cell.method.shuffle) and cell.bn_groups > 1
        self.register_buffer("queue", random_unit_rows(cell.seed, cell.method.queue, cell.head.dim))

    def forward(self, views: Tensor) -> Sequence[Tensor]:
        """Return the queries (k, d) of the first views, or of both views where the loss is symmetric."""
        if self.symmetric:
            return self.network(views.flatten(0, 1)).chunk(2)  # type: ignore[no-any-return]
        return (self.network(views[0], views=1),)

    @torch.no_grad()
    def targets(self, batch: Batch) -> Sequence[Tensor]:
        """Return unit keys (N, d) of the whole batch: of view 2, or of both views."""
        if not self.shuffle:
            keys = gathered(*encode_in_micro_batches(self.keys, batch, lambda slice_: self.encode(batch.views(slice_))))
            return [l2_normalize(k) for k in keys]
        order = batch.random_order("shuffle", len(batch.rows))
        whole_batch = gather(batch.whole.transpose(0, 1).contiguous())
        shuffled = self.world.local_rows(whole_batch[order]).transpose(0, 1)
        keys = gathered(*encode_in_micro_batches(self.keys, batch, lambda slice_: self.encode(shuffled[:, slice_])))
        unshuffle = order.argsort()
        return [l2_normalize(k)[unshuffle] for k in keys]

    def encode(self, views: Tensor) -> Sequence[Tensor]:
        """Return the keys (k, d) of views (2, k, C, H, W)."""
        used = views if self.symmetric else views[1:]
        return self.keys(used.flatten(0, 1), views=len(used)).chunk(len(used))  # type: ignore[no-any-return]

    def compare(self, embeddings: Sequence[Tensor], targets: Sequence[Tensor], batch: Batch) -> Comparison:
        """Return the loss of queries with the other view's keys against the queue."""
        pairs = partial(queued, queue=self.queue)
        first = torch.cat([l2_normalize(q) for q in gathered(*embeddings)])
        second = torch.cat(list(targets[::-1]))
        return Comparison(self.loss(first, second, pairs=pairs), first, second, pairs, new_state=second)

    @torch.no_grad()
    def after_step(self, batch: Batch, comparison: Comparison) -> None:
        """The queue takes the new keys in; the key encoder follows the network."""
        assert comparison.new_state is not None
        enqueue(self.queue, comparison.new_state, batch.step)
        ema_update(self.keys, self.network, self.ema)


def ema_update(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """``average <- momentum average + (1 - momentum) network``, parameters only, not batch statistics."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - momentum)
