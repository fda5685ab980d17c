"""Weighted nearest neighbours (Wu et al. 2018, arXiv 1805.01978), the usual check of an encoder without training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

QUERIES = 1024


def knn_accuracy(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor, *, k: int, temperature: float | None
) -> float:
    """Return the percentage of queries whose class wins the vote of the k most similar bank rows.

    Votes are weighted by exp(cosine / temperature).

    Args:
        bank, queries: (n, f) and (m, f) features, of any norm.
        bank_labels, query_labels: int64 (n,) and (m,).
        k: neighbours, at most n.
        temperature: of the votes' weights; None gives every neighbour one vote, and a tie goes to the class of
            the smallest number.
    """
    bank, queries = normalize(bank, dim=1), normalize(queries, dim=1)
    classes = int(bank_labels.max()) + 1
    correct = 0
    for rows, labels in zip(queries.split(QUERIES), query_labels.split(QUERIES), strict=True):
        cosines, neighbours = (rows @ bank.T).topk(k, dim=1)
        # Only ratios of weights matter: less the row's largest cosine, the exponential neither overflows nor vanishes.
        relative = cosines - cosines[:, :1]
        weights = torch.ones_like(relative) if temperature is None else (relative / temperature).exp()
        votes = torch.zeros(len(rows), classes, device=rows.device).scatter_add_(1, bank_labels[neighbours], weights)
        correct += int((votes.argmax(1) == labels).sum())
    return 100 * correct / len(queries)
