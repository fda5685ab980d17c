"""SimCLR (Chen et al. 2020, arXiv 2002.05709): both views through one network, every sample against every other.

With their losses and projectors this is VICReg, Barlow Twins, SogCLR and the spectral contrastive loss too: they differ
from SimCLR in what becomes of the two batches of embeddings, which is the loss's business.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.catalog.losses import LOSSES
from harness.cell import Cell
from harness.ssl.distributed import World
from harness.ssl.losses import takes_unit_norm
from harness.ssl.losses.pairs import two_views
from harness.ssl.methods.base import TrainingMethod
from harness.ssl.methods.batch import Batch, Comparison, gathered, l2_normalize
from harness.ssl.models import Network


class SimCLR(TrainingMethod):
    """Both views pass through one network: together as in SimCLR's code, so that batch norm sees the statistics of 2N
    images, or one after the other as in that of VICReg and of Barlow Twins (``Cell.bn_passes``). At small batch sizes
    these are two experiments.

    A loss that keeps a number of each training image (``LossEntry.state``) gets those of the batch, and returns the new
    ones beside its value.
    """

    def __init__(self, cell: Cell, network: Network, samples: int, world: World) -> None:
        super().__init__(cell, network, samples, world)
        self.unit_norm = takes_unit_norm(cell.loss.name)
        self.state = LOSSES[cell.loss.name].state
        if self.state:
            self.register_buffer(self.state.name, torch.full((samples,), self.state.initial))

    def forward(self, views: Tensor) -> Sequence[Tensor]:
        """Return the embeddings (k, d) of each view; both pass through the network together."""
        return self.network(views.flatten(0, 1)).chunk(2)  # type: ignore[no-any-return]

    def compare(self, embeddings: Sequence[Tensor], targets: Sequence[Tensor], batch: Batch) -> Comparison:
        """Return the loss of the two views, and the new numbers of the batch's samples where the loss has a state."""
        z1, z2 = gathered(*embeddings)
        if self.unit_norm:
            z1, z2 = l2_normalize(z1), l2_normalize(z2)
        if self.state is None:
            return Comparison(self.loss(z1, z2), z1, z2, two_views)
        stored = self.get_buffer(self.state.name)[batch.rows]
        loss, new_state = self.loss(z1, z2, **{self.state.name: stored})
        return Comparison(loss, z1, z2, two_views, new_state=new_state)

    @torch.no_grad()
    def after_step(self, batch: Batch, comparison: Comparison) -> None:
        """Store the loss's new numbers of the batch's images, if it keeps any."""
        if self.state and comparison.new_state is not None:
            stored = self.get_buffer(self.state.name)
            stored[batch.rows] = comparison.new_state.to(stored.dtype)
