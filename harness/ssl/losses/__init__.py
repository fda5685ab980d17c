"""Losses as pure functions of two views' embeddings, bound to the catalogue by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from harness.catalog import LOSSES
from harness.cell import Loss
from harness.ssl.losses.dcl import dcl, dclw
from harness.ssl.losses.infonce import infonce

LossFunction = Callable[[Tensor, Tensor], Tensor]

FUNCTIONS: dict[str, Callable[..., Tensor]] = {"infonce": infonce, "dcl": dcl, "dclw": dclw}


def bind(loss: Loss) -> LossFunction:
    """The loss with its declared parameters: embeddings (N, d), (N, d) -> scalar."""
    parameters = {name: getattr(loss, name) for name in LOSSES[loss.name].parameters}
    return partial(FUNCTIONS[loss.name], **parameters)
