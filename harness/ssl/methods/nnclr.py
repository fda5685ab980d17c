"""NNCLR (Dwibedi et al., ICCV 2021, arXiv 2104.14548): the positive is the nearest neighbour among past embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.cell import Cell, Head
from harness.ssl.distributed import World
from harness.ssl.losses.pairs import cross_view
from harness.ssl.methods.base import TrainingMethod
from harness.ssl.methods.batch import Batch, Comparison, gathered, l2_normalize
from harness.ssl.methods.queue import enqueue, random_unit_rows
from harness.ssl.models import Network
from harness.ssl.models.initial_weights import initialize
from harness.ssl.models.projector import projector


class NNCLR(TrainingMethod):
    """``loss(nn(z1), p2)`` and ``loss(nn(z2), p1)``, averaged: z are the projector's embeddings, p the predictor's.

    An anchor is the neighbour; its negatives are the other samples' predictions of the *other* view only, N - 1 of
    them, as in the paper. (One library feeds both to NT-Xent, with 2N - 2: another objective under the same name.)
    """

    queue: Tensor

    def __init__(self, cell: Cell, network: Network, samples: int, world: World) -> None:
        super().__init__(cell, network, samples, world)
        assert cell.method.queue is not None
        assert cell.method.predictor is not None
        self.predictor = projector(cell.head.dim, Head(cell.method.predictor, cell.head.dim))
        initialize(self.predictor, cell.seed, "predictor.")
        self.register_buffer("queue", random_unit_rows(cell.seed, cell.method.queue, cell.head.dim))

    def forward(self, views: Tensor) -> Sequence[Tensor]:
        """Return the projections of both views, without a graph, and their predictions; (k, d) each."""
        z = self.network(views.flatten(0, 1))
        p = self.network.in_groups(self.predictor, z, views=2)
        return (*z.detach().chunk(2), *p.chunk(2))

    def compare(self, embeddings: Sequence[Tensor], targets: Sequence[Tensor], batch: Batch) -> Comparison:
        """Return the mean loss of each view's nearest neighbours in the queue with the other view's predictions."""
        z1, z2, p1, p2 = (l2_normalize(z) for z in gathered(*embeddings))
        nn1, nn2 = self.neighbours(z1), self.neighbours(z2)
        loss = (self.loss(nn1, p2, pairs=cross_view) + self.loss(nn2, p1, pairs=cross_view)) / 2
        return Comparison(loss, nn1, p2, cross_view, new_state=z1)

    def neighbours(self, z: Tensor) -> Tensor:
        """Return the most similar row of the queue for each of the unit embeddings (N, d)."""
        return self.queue[(z.to(self.queue.dtype) @ self.queue.T).argmax(1)].to(z.dtype)

    @torch.no_grad()
    def after_step(self, batch: Batch, comparison: Comparison) -> None:
        """The queue takes the embeddings of view 1 in."""
        assert comparison.new_state is not None
        enqueue(self.queue, comparison.new_state, batch.step)
