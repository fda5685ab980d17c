"""The base class of the methods, which say what is encoded and what is compared with what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from harness.cell import Cell
from harness.ssl.distributed import World
from harness.ssl.losses import bind
from harness.ssl.losses.own_loss import OwnLoss
from harness.ssl.methods.batch import Batch, Comparison
from harness.ssl.models import Network


class TrainingMethod(nn.Module, ABC):
    """A network and a loss, and how the loss gets its embeddings.

    In each step, ``targets`` and ``forward`` encode the batch, ``compare`` computes the loss, and after the optimiser's
    step ``after_step`` keeps what the next step needs, in buffers, so that it is in the checkpoint.

    Args:
        cell: whose ``method`` has the values of all its parameters.
        network: encoder and projector with their initial weights.
        samples: the number of training images.
        world: the ranks that train together.
    """

    def __init__(self, cell: Cell, network: Network, samples: int, world: World) -> None:
        super().__init__()
        self.network = network
        self.loss = bind(cell.loss, cell.seed)
        self.own_loss: OwnLoss | None = self.loss.func if isinstance(self.loss.func, OwnLoss) else None

    @abstractmethod
    def forward(self, views: Tensor) -> Sequence[Tensor]:
        """Return embeddings (k, d), with a graph, of the views (2, k, C, H, W) of k of this rank's samples."""

    def targets(self, batch: Batch) -> Sequence[Tensor]:
        """Return what the embeddings are compared with and no gradient flows into: of this rank's samples, or of the
        whole batch, as ``compare`` expects it; nothing unless the method has such targets."""
        return ()

    @abstractmethod
    def compare(self, embeddings: Sequence[Tensor], targets: Sequence[Tensor], batch: Batch) -> Comparison:
        """Return the loss of the whole batch, from what ``forward`` and ``targets`` made of this rank's samples."""

    def after_step(self, batch: Batch, comparison: Comparison) -> None:
        """Keep what the next step needs; nothing unless the method or its loss has a state."""
