"""Micro-batches: a batch that passes a network in slices, with the result of one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harness.ssl.methods.batch import Batch


def micro_batches(samples: int, size: int | None) -> list[slice]:
    """Divide ``samples`` into consecutive slices of ``size``; into a single one if that is None or not smaller."""
    size = min(size or samples, samples)
    return [slice(first, first + size) for first in range(0, samples, size)]


def encode_in_micro_batches(
    module: nn.Module, batch: Batch, encode: Callable[[slice], Sequence[Tensor]]
) -> list[Tensor]:
    """Encode every micro-batch and join the results: (k, ...) each -> (n, ...) each.

    Batch norm's running statistics are updated once: they become the mean over the micro-batches of what each of them
    makes of the statistics before the step, as if ranks held one micro-batch each.

    Args:
        module: whose running statistics ``encode`` changes.
        batch: of this step.
        encode: the embeddings of the samples in a slice of the batch.
    """
    encoded = [encode(micro_batch) for micro_batch in _averaging_statistics(module, batch.micro_batches)]
    return list(encoded[0]) if len(encoded) == 1 else [torch.cat(slices) for slices in zip(*encoded, strict=True)]


def _averaging_statistics(module: nn.Module, slices: Sequence[slice]) -> Iterator[slice]:
    if len(slices) == 1:
        yield slices[0]
        return
    buffers = _running_statistics(module)
    before, mean = ([buffer.clone() for buffer in buffers] for _ in range(2))
    for number, micro_batch in enumerate(slices, start=1):
        torch._foreach_copy_(buffers, before)
        yield micro_batch
        # Step by step: statistics that no micro-batch has changed stay what they are, to the last bit.
        for total, buffer in zip(mean, buffers, strict=True):
            total.copy_(buffer if number == 1 else total + (buffer - total) / number)
    torch._foreach_copy_(buffers, mean)


@contextmanager
def unchanged_statistics(module: nn.Module) -> Iterator[None]:
    """Restore batch norm's running statistics at the end, whatever batches it has seen meanwhile."""
    buffers = _running_statistics(module)
    before = [buffer.clone() for buffer in buffers]
    yield
    torch._foreach_copy_(buffers, before)


def _running_statistics(module: nn.Module) -> list[Tensor]:
    names = ("running_mean", "running_var", "num_batches_tracked")
    return [buffer for name, buffer in module.named_buffers() if name.endswith(names)]
