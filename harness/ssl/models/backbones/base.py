"""The base class of the backbones: a module from images to features that says how its weights are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

#: Fills a tensor in place, from this generator and no other.
Initializer = Callable[[Tensor, torch.Generator], object]


class Encoder(nn.Module):
    """A network from images (B, C, H, W) to features (B, ``features``).

    ``initializers``: how tensors are drawn that do not belong to a convolution, a linear or a normalisation layer, such
    as a position embedding; by the tensor's name, in which ``*`` stands for anything. They also overrule the rules for
    those layers (``initial_weights``).
    """

    features: int
    initializers: ClassVar[Mapping[str, Initializer]] = {}


def as_built(tensor: Tensor, generator: torch.Generator) -> None:
    """Leave a tensor as it is that the constructor computes without any random draw, such as a table of sines."""
