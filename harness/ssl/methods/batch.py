"""The batch of views that every method takes, and the comparison that it makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.random_streams import permutation
from harness.ssl.data.augment import LocalViews
from harness.ssl.distributed import gather
from harness.ssl.losses.pairs import Pairs

WHOLE = (slice(None),)


@dataclass(frozen=True)
class Batch:
    """The samples of one step: N in the whole batch, n of them on this rank.

    ``local_views``: the views of this rank's samples. ``rows``: (N,), the training images of the whole batch. ``seed``,
    ``step``: the key of whatever a method draws, so that all ranks draw the same. ``micro_batches``: the slices in
    which this rank's samples pass the network, one after another.
    """

    local_views: LocalViews
    rows: Tensor
    seed: int
    step: int
    micro_batches: Sequence[slice] = WHOLE

    def views(self, micro_batch: slice) -> Tensor:
        """Return the views of one micro-batch, (2, k, C, H, W).

        If there are several, they are computed anew each time, because all of them together may not fit into memory.
        """
        return self.whole if len(self.micro_batches) == 1 else self.local_views(micro_batch)

    @cached_property
    def whole(self) -> Tensor:
        """The views of all samples of this rank, (2, n, C, H, W)."""
        return self.local_views(slice(None))

    def random_order(self, purpose: str, count: int) -> Tensor:
        """Return a random order of ``range(count)``, (count,), another one at every step."""
        return torch.from_numpy(permutation(self.seed, purpose, count, self.step)).to(
            self.rows.device, non_blocking=True
        )


@dataclass(frozen=True)
class Comparison:
    """The loss of one step, and what was compared.

    ``first``, ``second``: (N, d), embeddings of the whole batch, compared by ``pairs``; ``new_state``: what the method
    keeps of this step for the next ones.
    """

    loss: Tensor
    first: Tensor
    second: Tensor
    pairs: Pairs
    new_state: Tensor | None = None


def gathered(*embeddings: Tensor) -> list[Tensor]:
    """Gather embeddings, each (n, d) of this rank's samples -> (N, d) of the whole batch, by one collective.

    They become fp32 if they are narrower: under autocast they come in half precision, in which the norm of a long row
    overflows.
    """
    wide = torch.cat([z.to(torch.promote_types(z.dtype, torch.float32)) for z in embeddings], dim=1)
    return list(gather(wide).split([z.shape[1] for z in embeddings], dim=1))


def l2_normalize(z: Tensor) -> Tensor:
    """Return the rows at norm 1."""
    return normalize(z, dim=1)
