"""Who is compared with whom: the cosines that all sample-contrastive losses share.

A method says which pairs there are by a function of its two batches of embeddings (``two_views``, ``cross_view``,
``queued``); a loss says what becomes of the pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.errors import UserError


@dataclass(frozen=True)
class Similarities:
    """Of A anchors, each to its positive and to its negatives.

    positives: (A,) cosines. negatives: (A, C) cosines. excluded: (A, C) or None; true where a candidate is no negative
    of the anchor (itself, its positive). count: negatives of each anchor, equal for all.
    """

    positives: Tensor
    negatives: Tensor
    excluded: Tensor | None
    count: int

    def over(self, temperature: float) -> tuple[Tensor, Tensor]:
        """Logits ``p`` (A,) and ``n`` (A, C), with -inf where a candidate is excluded: a logsumexp over a row of ``n``
        runs over the negatives alone."""
        n = self.negatives / temperature
        return self.positives / temperature, n if self.excluded is None else n.masked_fill(self.excluded, -torch.inf)

    def mapped(self, function: Callable[[Tensor], Tensor], *, positive: bool) -> Similarities:
        """The same pairs with ``function`` of every cosine, or of the negatives' alone."""
        positives = function(self.positives) if positive else self.positives
        return replace(self, positives=positives, negatives=function(self.negatives))


Pairs = Callable[[Tensor, Tensor], Similarities]


def two_views(z1: Tensor, z2: Tensor) -> Similarities:
    """SimCLR's pairs: 2N anchors, both views of every sample; an anchor's 2N - 2 negatives are both views of every
    *other* sample.

    Args:
        z1, z2: (N, d), unit embeddings; row i of both is sample i.
    """
    n = z1.shape[0]
    anchors = torch.cat([z1, z2])
    cosines = anchors @ anchors.T
    positives = torch.cat([cosines.diagonal(n), cosines.diagonal(-n)])
    itself = torch.eye(n, dtype=torch.bool, device=z1.device).repeat(2, 2)
    return Similarities(positives, cosines, itself, 2 * n - 2)


def cross_view(queries: Tensor, keys: Tensor, columns: Tensor | None = None) -> Similarities:
    """N anchors, the queries; the positive is the own key, the negatives are the other keys.

    Args:
        queries, keys: (N, d), unit embeddings.
        columns: (K,), positions among each row's N - 1 other keys; None takes all. Because each row has dropped its own
            key, a column is another key in the rows before it than in those after it.
    """
    n = queries.shape[0]
    cosines = queries @ keys.T
    if columns is None:
        return Similarities(cosines.diagonal(), cosines, torch.eye(n, dtype=torch.bool, device=keys.device), n - 1)
    rows = torch.arange(n, device=keys.device)[:, None]
    chosen = columns[None, :] + (columns[None, :] >= rows)
    return Similarities(cosines.diagonal(), cosines.gather(1, chosen), None, columns.shape[0])


def queued(queries: Tensor, keys: Tensor, queue: Tensor) -> Similarities:
    """MoCo's pairs: N anchors, the queries; the positive is the own key, the negatives are a queue of earlier keys.

    Args:
        queries, keys: (N, d), unit embeddings.
        queue: (K, d), unit embeddings without gradient.
    """
    if queue.ndim != 2 or queue.shape[1] != queries.shape[1]:
        raise UserError(
            f"a queue of shape {tuple(queue.shape)} does not go with embeddings of {queries.shape[1]} dimensions",
            where="queue",
            allowed=f"(K, {queries.shape[1]})",
        )
    return Similarities((queries * keys).sum(1), queries @ queue.to(queries.dtype).T, None, queue.shape[0])
