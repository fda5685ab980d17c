"""The pairs of samples that a loss compares, and their cosines, which all sample-contrastive losses share.

A method says which pairs there are by a function of its two batches of embeddings (``two_views``, ``cross_view``,
``queued``); a loss says what becomes of the pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from harness.errors import UserError
from harness.ssl.losses.tiled_logsumexp import Map, log_sums


class Similarities(Protocol):
    """The cosines of A anchors, each with its positive and with its negatives."""

    @property
    def positives(self) -> Tensor:
        """(A,) cosines."""

    @property
    def count(self) -> int:
        """Negatives of each anchor, equal for all."""

    def log_sums(self, temperature: float) -> tuple[Tensor, Tensor]:
        """Logits ``p`` (A,) of the positives, and the logsumexp ``LSE(n)`` (A,) of each anchor's negatives' logits."""

    def transformed(self, function: Map, *, positive: bool) -> Similarities:
        """The same pairs with ``function`` of every cosine, or of the negatives' alone."""

    def mean_negative(self) -> Tensor:
        """The mean of all negatives' cosines, before any function of them."""


Pairs = Callable[[Tensor, Tensor], Similarities]


@dataclass(frozen=True)
class DensePairs:
    """Negatives are all candidates but those at some offsets from the anchor: itself, its positive.

    positives: (A,). anchors: (A, d). candidates: (C, d), which may be the anchors. excluded: ``a + offset`` is no
    negative of anchor a. function: of the negatives' cosines.
    """

    positives: Tensor
    anchors: Tensor
    candidates: Tensor
    excluded: tuple[int, ...]
    count: int
    function: Map | None = None

    def log_sums(self, temperature: float) -> tuple[Tensor, Tensor]:
        """Return ``p`` (A,) and ``LSE(n)`` (A,), from tiles of the A x C cosines, which never exist as a whole."""
        # f(c) / t = f(s c): what is scaled is the embeddings, not their many products.
        scale = temperature ** (-1 if self.function is None else -1 / self.function.degree)
        if self.candidates is self.anchors:
            sums = log_sums(self.anchors * scale**0.5, excluded=self.excluded, function=self.function)
        else:
            sums = log_sums(self.anchors * scale, self.candidates, excluded=self.excluded, function=self.function)
        return self.positives / temperature, sums

    def transformed(self, function: Map, *, positive: bool) -> DensePairs:
        """Return the same pairs; the function of the negatives is applied when a tile is computed."""
        return replace(self, positives=function.of(self.positives) if positive else self.positives, function=function)

    def mean_negative(self) -> Tensor:
        """Return the mean of the negatives' cosines, a scalar, from sums of the embeddings in O((A + C) d)."""
        total = self.anchors.sum(0) @ self.candidates.sum(0)
        for offset in self.excluded:
            first, last = max(0, -offset), min(self.anchors.shape[0], self.candidates.shape[0] - offset)
            total = total - (self.anchors[first:last] * self.candidates[first + offset : last + offset]).sum()
        return total / (self.count * self.anchors.shape[0])


@dataclass(frozen=True)
class SampledPairs:
    """Each anchor has its own negatives. positives: (A,). negatives: (A, K) cosines."""

    positives: Tensor
    negatives: Tensor

    @property
    def count(self) -> int:
        """The number K of negatives of each anchor."""
        return self.negatives.shape[1]

    def log_sums(self, temperature: float) -> tuple[Tensor, Tensor]:
        """Return ``p`` (A,) and ``LSE(n)`` (A,)."""
        return self.positives / temperature, (self.negatives / temperature).logsumexp(1)

    def transformed(self, function: Map, *, positive: bool) -> SampledPairs:
        """Return the same pairs with ``function`` of every cosine, or of the negatives' alone."""
        return SampledPairs(function.of(self.positives) if positive else self.positives, function.of(self.negatives))

    def mean_negative(self) -> Tensor:
        """Return the mean of all negatives' cosines, a scalar."""
        return self.negatives.mean()


def two_views(z1: Tensor, z2: Tensor) -> Similarities:
    """SimCLR's pairs: 2N anchors, both views of every sample; an anchor's 2N - 2 negatives are both views of every
    *other* sample.

    Args:
        z1, z2: (N, d), unit embeddings; row i of both is sample i.
    """
    n = z1.shape[0]
    anchors = torch.cat([z1, z2])
    return DensePairs((z1 * z2).sum(1).repeat(2), anchors, anchors, (0, n, -n), 2 * n - 2)


def cross_view(queries: Tensor, keys: Tensor, columns: Tensor | None = None) -> Similarities:
    """N anchors, the queries; the positive is the own key, the negatives are the other keys.

    Args:
        queries, keys: (N, d), unit embeddings.
        columns: (K,), positions among each row's N - 1 other keys; None takes all. Because each row has dropped its own
            key, a column is another key in the rows before it than in those after it.
    """
    positives = (queries * keys).sum(1)
    if columns is None:
        return DensePairs(positives, queries, keys, (0,), queries.shape[0] - 1)
    rows = torch.arange(queries.shape[0], device=keys.device)[:, None]
    before, after = queries @ keys[columns].T, queries @ keys[columns + 1].T
    return SampledPairs(positives, torch.where(columns >= rows, after, before))


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
    return DensePairs((queries * keys).sum(1), queries, queue.to(queries.dtype), (), queue.shape[0])
