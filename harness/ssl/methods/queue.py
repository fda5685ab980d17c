"""The queue: a ring buffer of embeddings of past batches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.random_streams import stream


def random_unit_rows(seed: int, count: int, dim: int) -> Tensor:
    """Return the queue before any batch, (count, dim): random directions, as in MoCo's and NNCLR's code."""
    return normalize(torch.from_numpy(stream(seed, "queue").standard_normal((count, dim), dtype="float32")), dim=1)


def enqueue(queue: Tensor, newest: Tensor, step: int) -> None:
    """Overwrite the oldest rows, in place; if more rows come than fit, the last of them stay.

    Every step brings equally many rows, so that the position follows from the number of the step.
    """
    size = queue.shape[0]
    position = step * newest.shape[0] + torch.arange(newest.shape[0], device=queue.device)
    queue[position[-size:] % size] = newest[-size:].to(queue.dtype)
