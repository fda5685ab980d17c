"""What every method takes and gives: a batch of views, and the comparison that was made of it."""

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
    """One step's samples, n of the whole batch's N on this rank.

    share: the views of this rank's samples. rows: (N,), the training images of the whole batch. seed, step: the key of
    whatever a method draws, so that all ranks draw the same. parts: the micro-batches that this rank's samples pass
    the network in, one after another.
    """

    local_views: LocalViews
    rows: Tensor
    seed: int
    step: int
    micro_batches: Sequence[slice] = WHOLE

    def views(self, part: slice) -> Tensor:
        """Of one micro-batch; several are made anew each time, because all of them may not fit the memory."""
        return self.whole if len(self.micro_batches) == 1 else self.local_views(part)

    @cached_property
    def whole(self) -> Tensor:
        """(2, n, C, H, W), of all samples of this rank."""
        return self.local_views(slice(None))

    def random_order(self, purpose: str, count: int) -> Tensor:
        """(count,), a random order of ``range(count)``, another one at every step."""
        return torch.from_numpy(permutation(self.seed, purpose, count, self.step)).to(
            self.rows.device, non_blocking=True
        )


@dataclass(frozen=True)
class Comparison:
    """One step's loss, and what was compared: ``first`` and ``second``, (N, d) embeddings of the whole batch, by
    ``pairs``; ``newest``: what the method keeps of this step for the next ones."""

    loss: Tensor
    first: Tensor
    second: Tensor
    pairs: Pairs
    new_state: Tensor | None = None


def gathered(*embeddings: Tensor) -> list[Tensor]:
    """Embeddings (n, d) each of this rank's samples -> (N, d) each of the whole batch, by one collective.

    In fp32 or wider: under autocast they come in half precision, in which the norm of a long row overflows.
    """
    wide = torch.cat([z.to(torch.promote_types(z.dtype, torch.float32)) for z in embeddings], dim=1)
    return list(gather(wide).split([z.shape[1] for z in embeddings], dim=1))


def l2_normalize(z: Tensor) -> Tensor:
    """Rows of norm 1."""
    return normalize(z, dim=1)
