"""Losses as pure functions of two views' embeddings, one file a paper, bound to the catalogue by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from harness.catalog.losses import LOSSES
from harness.cell import Loss
from harness.errors import UserError
from harness.ssl.losses.barlow_twins import barlow_twins
from harness.ssl.losses.dcl import dcl, dclw
from harness.ssl.losses.duality import dcl_abs, dcl_sq, simclr_abs, simclr_sq, vicreg_ctr, vicreg_exp
from harness.ssl.losses.eqco import eqco
from harness.ssl.losses.flatnce import flatnce
from harness.ssl.losses.infonce import infonce
from harness.ssl.losses.own_loss import OwnLoss
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


def function(name: str, seed: int = 0) -> LossFunction:
    """Return a loss of the catalogue; a user's own is imported from its file, with the draws of this seed.

    Raises:
        UserError: the file does not run, or holds what no loss may have.
    """
    return FUNCTIONS[name] if name in FUNCTIONS else OwnLoss(LOSSES[name], seed)


def bind(loss: Loss, seed: int = 0) -> partial[Any]:
    """Return the loss with its declared parameters; the catalogue has the defaults of the others.

    ``seed``: of the cell, for what a user's own loss draws.

    Raises:
        UserError: the file of a user's own loss has changed since the cell was declared.
    """
    if loss.name not in LOSSES or (loss.source or "") != LOSSES[loss.name].source:
        there = f"is {LOSSES[loss.name].source or 'built in'}" if loss.name in LOSSES else "was not given"
        what = f"the cell was declared with source {loss.source} of the loss '{loss.name}', which {there}"
        raise UserError(what, where="loss", next_command="harness sweep EXPERIMENT --plugin FILE")
    given = {**asdict(loss), **(loss.own or {})}
    parameters = {
        name: known.default if given.get(name) is None else _like(known.default, given[name])
        for name, known in LOSSES[loss.name].parameters.items()
    }
    return partial(function(loss.name, seed), **parameters)


def _like(default: float, value: float) -> float:
    """Return an int for a parameter whose default is an int: a cell holds floats, and ``topk`` needs an int."""
    whole = isinstance(default, int) and not isinstance(default, bool) and float(value).is_integer()
    return int(value) if whole else value


def takes_unit_norm(name: str) -> bool:
    """Return whether the loss takes L2-normalised embeddings."""
    return LOSSES[name].unit_norm
