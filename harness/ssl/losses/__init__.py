"""Losses as pure functions of two views' embeddings, one file a paper, bound to the catalogue by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from harness.catalog import LOSSES
from harness.cell import Loss
from harness.ssl.losses.barlow_twins import barlow_twins
from harness.ssl.losses.dcl import dcl, dclw
from harness.ssl.losses.duality import dcl_abs, dcl_sq, simclr_abs, simclr_sq, vicreg_ctr, vicreg_exp
from harness.ssl.losses.eqco import eqco
from harness.ssl.losses.flatnce import flatnce
from harness.ssl.losses.infonce import infonce
from harness.ssl.losses.sogclr import sogclr
from harness.ssl.losses.spectral import spectral
from harness.ssl.losses.vicreg import vicreg

#: Embeddings (N, d), (N, d) -> scalar; a loss of pairs also takes ``pairs``, who is compared with whom.
LossFunction = Callable[..., Any]

FUNCTIONS: dict[str, LossFunction] = {
    "infonce": infonce,
    "dcl": dcl,
    "dclw": dclw,
    "eqco": eqco,
    "flatnce": flatnce,
    "simclr_sq": simclr_sq,
    "simclr_abs": simclr_abs,
    "dcl_sq": dcl_sq,
    "dcl_abs": dcl_abs,
    "sogclr": sogclr,
    "spectral": spectral,
    "vicreg": vicreg,
    "vicreg_exp": vicreg_exp,
    "vicreg_ctr": vicreg_ctr,
    "barlow_twins": barlow_twins,
}


def bind(loss: Loss) -> LossFunction:
    """The loss with its declared parameters; a parameter that was left open has the catalogue's default."""
    known = LOSSES[loss.name].parameters
    given = {name: getattr(loss, name) for name in known}
    return partial(
        FUNCTIONS[loss.name],
        **{name: known[name].default if value is None else value for name, value in given.items()},
    )


def takes_unit_norm(name: str) -> bool:
    """Whether the loss wants L2-normalised embeddings."""
    return LOSSES[name].unit_norm
