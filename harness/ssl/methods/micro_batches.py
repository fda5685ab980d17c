"""A batch that passes a network in parts, as if it had passed in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harness.ssl.methods.batch import Batch


def micro_batches(samples: int, size: int | None) -> list[slice]:
    """``samples`` in consecutive parts of ``size``, or in one where that is None or not smaller."""
    size = min(size or samples, samples)
    return [slice(first, first + size) for first in range(0, samples, size)]


def encode_in_micro_batches(
    module: nn.Module, batch: Batch, encode: Callable[[slice], Sequence[Tensor]]
) -> list[Tensor]:
    """What ``encode`` makes of every micro-batch with ``module``, joined: (k, ...) each -> (n, ...) each.

    Running statistics become the mean over the parts of what each makes of those before: they are updated once, as by
    ranks that hold a part each.
    """
    made = [encode(part) for part in _averaging(module, batch.micro_batches)]
    return list(made[0]) if len(made) == 1 else [torch.cat(parts) for parts in zip(*made, strict=True)]


def _averaging(module: nn.Module, parts: Sequence[slice]) -> Iterator[slice]:
    if len(parts) == 1:
        yield parts[0]
        return
    buffers = _running(module)
    before, mean = ([buffer.clone() for buffer in buffers] for _ in range(2))
    for number, part in enumerate(parts, start=1):
        torch._foreach_copy_(buffers, before)
        yield part
        # Step by step: statistics that no part has changed stay what they are, to the last bit.
        for total, buffer in zip(mean, buffers, strict=True):
            total.copy_(buffer if number == 1 else total + (buffer - total) / number)
    torch._foreach_copy_(buffers, mean)


@contextmanager
def unchanged_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, batch norm may see batches; afterwards its running statistics are those of before."""
    buffers = _running(module)
    before = [buffer.clone() for buffer in buffers]
    yield
    torch._foreach_copy_(buffers, before)


def _running(module: nn.Module) -> list[Tensor]:
    names = ("running_mean", "running_var", "num_batches_tracked")
    return [buffer for name, buffer in module.named_buffers() if name.endswith(names)]
