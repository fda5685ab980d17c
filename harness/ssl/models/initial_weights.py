"""Initial weights as a function of the seed and the names of the weights, and of nothing else.

Arms of an experiment begin with the same weights, and so do all machines. A tensor without a rule for its draw
would come from torch's global generator and silently break that: it is refused by name.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from harness.random_streams import stream
from harness.ssl.models.backbones.base import Encoder

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def torch_generator(seed: int, purpose: str) -> torch.Generator:
    """Return a torch generator, for initialisers that take no numpy generator."""
    return torch.Generator().manual_seed(int(stream(seed, purpose).integers(2**62)))


@torch.no_grad()
def initialize(network: nn.Module, seed: int, prefix: str = "") -> None:
    """Draw every parameter and buffer from the stream of its own name, or its module's.

    Convolutions are drawn as He et al. do, with biases of 0; linear layers as torch does by default; normalisation
    layers begin with weights of 1 and biases of 0; all other tensors are drawn as an encoder's ``initializers`` say.

    Args:
        network: all of its tensors are drawn anew.
        seed: of the cell.
        prefix: of the names in the streams.

    Raises:
        ValueError: none of these rules draws some tensor.
    """
    drawn: set[str] = set()
    for name, module in network.named_modules():
        if _draw_by_type(module, seed, f"weights {prefix}{name}"):
            drawn |= {_join(name, tensor) for tensor, _ in _own_tensors(module)}
    for name, module in network.named_modules():
        if isinstance(module, Encoder):
            drawn |= {_join(name, tensor) for tensor in _draw_by_name(module, seed, f"weights {prefix}{name}")}
    if left := [name for name, _ in _all_tensors(network) if name not in drawn]:
        raise ValueError(
            f"{len(left)} tensors would come from torch's global random generator: {', '.join(left[:5])}"
            f"{', ...' if len(left) > 5 else ''}; the encoder's `initializers` must say how each of them is drawn"
        )


def _draw_by_type(module: nn.Module, seed: int, purpose: str) -> bool:
    """Draw the module's own tensors, if it is of a type that has a rule; return whether it is."""
    if isinstance(module, nn.Conv2d):
        generator = torch_generator(seed, purpose)
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        generator = torch_generator(seed, purpose)
        nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
        if module.bias is not None:
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    elif isinstance(module, NORMS):
        module.reset_parameters()
    else:
        return False
    return True


def _draw_by_name(encoder: Encoder, seed: int, purpose: str) -> list[str]:
    """Draw the tensors that the encoder's ``initializers`` name; return their names."""
    tensors = dict(_all_tensors(encoder))
    drawn = []
    for pattern, fill in encoder.initializers.items():
        names = fnmatch.filter(tensors, pattern)
        if not names:
            raise ValueError(f"{type(encoder).__name__}.initializers: the encoder has no tensor '{pattern}'")
        for name in names:
            fill(tensors[name], torch_generator(seed, _join(purpose, name)))
        drawn += names
    return drawn


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)


def _all_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
