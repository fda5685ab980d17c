"""The gradient of a batch's loss, in one pass or in micro-batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.ssl.distributed import unsynchronized
from harness.ssl.methods.base import TrainingMethod
from harness.ssl.methods.batch import Batch, Comparison
from harness.ssl.methods.micro_batches import encode_in_micro_batches, unchanged_statistics


def backward(model: nn.Module, method: TrainingMethod, batch: Batch) -> Comparison:
    """Add the gradient of the whole batch's loss to the parameters' ``grad``, and return the comparison.

    The gradient of several micro-batches equals that of one pass, with the memory of one micro-batch and all embeddings
    (gradient caching, Gao et al. 2021, arXiv 2101.06983): all of them are encoded without a graph; the loss of all
    embeddings gives the gradient by each of them; each part is encoded again, with a graph, and the chain rule goes
    on from there. It costs a second forward pass.

    Args:
        model: the method, or its wrapper that averages gradients over ranks.
    """
    if method.own_loss:
        method.own_loss.begin_step(batch.seed, batch.step)
    targets = method.targets(batch)
    if len(batch.micro_batches) == 1:
        comparison = method.compare(model(batch.whole), targets, batch)
        comparison.loss.backward()
        return comparison
    with torch.no_grad():
        embeddings = encode_in_micro_batches(method, batch, lambda part: method(batch.views(part)))
    for z in embeddings:
        z.requires_grad_()
    comparison = method.compare(embeddings, targets, batch)
    comparison.loss.backward()
    with unchanged_statistics(method):
        _through_the_network(model, batch, [z.grad for z in embeddings])
    return comparison


def _through_the_network(model: nn.Module, batch: Batch, gradients: Sequence[Tensor | None]) -> None:
    """Continue the chain rule through each micro-batch; ranks exchange their sums with the last."""
    for part in batch.micro_batches:
        with unsynchronized(model, unless=part is batch.micro_batches[-1]):
            embeddings = model(batch.views(part))
            known = [
                (z, gradient[part])
                for z, gradient in zip(embeddings, gradients, strict=True)
                if gradient is not None and z.requires_grad
            ]
            torch.autograd.backward([z for z, _ in known], [gradient for _, gradient in known])
