"""Initial weights as a function of the seed and the name of each module, and of nothing else."""

from __future__ import annotations

import math

import torch
from torch import nn

from harness.random_streams import stream


def torch_generator(seed: int, purpose: str) -> torch.Generator:
    """A torch generator for library initialisers, which take no numpy one."""
    return torch.Generator().manual_seed(int(stream(seed, purpose).integers(2**62)))


@torch.no_grad()
def initialize(network: nn.Module, seed: int, prefix: str = "") -> None:
    """Draw every weight from the stream of its own name: He for convolutions, torch's defaults for linear layers."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            generator = torch_generator(seed, f"weights {prefix}{name}")
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            generator = torch_generator(seed, f"weights {prefix}{name}")
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            if module.bias is not None:
                bound = 1 / math.sqrt(module.in_features)
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
