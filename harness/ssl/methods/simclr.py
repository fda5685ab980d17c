"""SimCLR (Chen et al. 2020, arXiv 2002.05709): both views through one network, every sample against every other.

With their losses and projectors this is VICReg, Barlow Twins, SogCLR and the spectral contrastive loss too: they differ
from SimCLR in what becomes of the two batches of embeddings, which is the loss's business.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.cell import Cell
from harness.ssl.losses import bind, takes_unit_norm
from harness.ssl.losses.pairs import two_views
from harness.ssl.methods.batch import Batch, Comparison, gathered, l2_normalize
from harness.ssl.models import Network


class SimCLR(nn.Module):
    """Both views pass through the network together, as in the paper's code, so that batch norm sees the statistics of
    2N images; encoding them one after the other would be another experiment at small batch sizes."""

    log_u: Tensor

    def __init__(self, cell: Cell, network: Network, samples: int) -> None:
        super().__init__()
        self.network = network
        self.loss = bind(cell.loss)
        self.unit_norm = takes_unit_norm(cell.loss.name)
        self.averages = cell.loss.name == "sogclr"
        if self.averages:
            self.register_buffer("log_u", torch.full((samples,), -torch.inf))

    def forward(self, views: Tensor) -> Sequence[Tensor]:
        return self.network(views.flatten(0, 1)).chunk(2)  # type: ignore[no-any-return]

    def targets(self, batch: Batch) -> Sequence[Tensor]:
        return ()

    def compare(self, embeddings: Sequence[Tensor], targets: Sequence[Tensor], batch: Batch) -> Comparison:
        z1, z2 = gathered(*embeddings)
        if self.unit_norm:
            z1, z2 = l2_normalize(z1), l2_normalize(z2)
        if not self.averages:
            return Comparison(self.loss(z1, z2), z1, z2, two_views)
        loss, log_u = self.loss(z1, z2, log_u=self.log_u[batch.rows])
        return Comparison(loss, z1, z2, two_views, new_state=log_u)

    @torch.no_grad()
    def after_step(self, batch: Batch, comparison: Comparison) -> None:
        """SogCLR's averages of the batch's samples are stored; no other loss keeps anything."""
        if comparison.new_state is not None:
            self.log_u[batch.rows] = comparison.new_state.to(self.log_u.dtype)
