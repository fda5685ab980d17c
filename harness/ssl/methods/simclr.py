"""SimCLR (Chen et al. 2020, arXiv 2002.05709): both views through one network, every sample against every other."""

from __future__ import annotations

from torch import Tensor
from torch.nn import Module
from torch.nn.functional import normalize

from harness.ssl.losses import LossFunction


def simclr(network: Module, loss: LossFunction, views: Tensor) -> Tensor:
    """The loss of one step.

    Both views pass through the network together, as in the paper's code, so batch norm sees the statistics of 2N
    images; encoding them one after the other would be another experiment at small batch sizes.

    Args:
        network: encoder and projector, (2N, C, H, W) -> (2N, d).
        loss: of two (N, d) batches of unit embeddings.
        views: (2N, C, H, W), the first views of all samples, then the second ones.
    """
    # In fp32: under autocast the norm of a half-precision row overflows, and its epsilon rounds to zero.
    first, second = normalize(network(views).float(), dim=1).chunk(2)
    return loss(first, second)
