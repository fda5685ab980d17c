"""The checks of every loss: two batches of embeddings are checked and widened before its equation begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from harness.catalog.losses import LOSSES
from harness.catalog.parameters import Parameter
from harness.errors import UserError

Result = TypeVar("Result")

_values_trusted = False


@contextmanager
def skip_value_checks() -> Iterator[None]:
    """Skip the checks of embeddings for NaN, infinity and norm: reading a value makes a GPU wait.

    The training loop normalises by itself and finds a loss that is not finite at the end of an epoch.
    """
    global _values_trusted  # noqa: PLW0603
    before, _values_trusted = _values_trusted, True
    try:
        yield
    finally:
        _values_trusted = before


def validated_loss(loss: Callable[..., Result]) -> Callable[..., Result]:
    """Check the arguments of a catalogued loss and compute it in fp32 or wider, autocast or not."""
    entry = LOSSES[loss.__name__]
    return in_full_precision(loss, entry.parameters, unit_norm=entry.unit_norm)


def in_full_precision(
    loss: Callable[..., Result], parameters: Mapping[str, Parameter], *, unit_norm: bool
) -> Callable[..., Result]:
    """``loss`` with checked arguments, of embeddings in fp32 or wider.

    In half precision a similarity over a small temperature has no digits left, an exponential overflows above 11, and
    the norm of a long row is infinite.
    """

    @wraps(loss)
    def checked(z1: Tensor, z2: Tensor, **given: Any) -> Result:
        for name in parameters.keys() & given.keys():
            if not isinstance(given[name], int | float) or given[name] not in parameters[name]:
                raise UserError(
                    f"{loss.__name__}: {given[name]!r} is out of range", where=name, allowed=str(parameters[name])
                )
        check_shapes(z1, z2)
        if not _values_trusted:
            _check_values(z1, "z1", unit_norm)
            _check_values(z2, "z2", unit_norm)
        wide = torch.promote_types(torch.promote_types(z1.dtype, z2.dtype), torch.float32)
        with skip_value_checks(), torch.autocast(z1.device.type, enabled=False):
            return loss(z1.to(wide), z2.to(wide), **given)

    return checked


def check_shapes(z1: Tensor, z2: Tensor) -> None:
    """Raises a UserError unless both are (N, d) with N > 1 and d > 1."""
    for name, z in (("z1", z1), ("z2", z2)):
        if not isinstance(z, Tensor):
            raise UserError(f"a {type(z).__name__} is no tensor", where=name, allowed="floating-point (N, d)")
        if z.ndim != 2 or not z.is_floating_point():
            what = f"{tuple(z.shape)} of {str(z.dtype).removeprefix('torch.')}"
            raise UserError(f"{what} are not embeddings", where=name, allowed="floating-point (N, d)")
    if z1.shape != z2.shape:
        raise UserError(
            f"its shape {tuple(z2.shape)} is not that of z1", where="z2", allowed=str(tuple(z1.shape)),
        )  # fmt: skip
    if z1.shape[0] < 2:
        raise UserError("a batch of one sample has no negatives", where="z1", allowed="(N, d) with N > 1")
    if z1.shape[1] < 2:
        raise UserError("embeddings of one dimension have no direction", where="z1", allowed="(N, d) with d > 1")


def _check_values(z: Tensor, name: str, unit_norm: bool) -> None:
    if not bool(z.isfinite().all()):
        row = int((~z.isfinite()).any(1).nonzero()[0])
        raise UserError(f"row {row} holds NaN or infinity", where=name, allowed="finite embeddings")
    if unit_norm:
        norms = z.detach().float().norm(dim=1)
        # Rounding d components to half precision moves the norm by up to its epsilon.
        tolerance = 1e-3 + 2 * torch.finfo(z.dtype).eps
        if not bool(((norms - 1).abs() <= tolerance).all()):
            worst = int((norms - 1).abs().argmax())
            raise UserError(
                f"row {worst} has norm {float(norms[worst]):.4g}",
                where=name,
                allowed="L2-normalised embeddings",
                next_command=f"torch.nn.functional.normalize({name}.float(), dim=1)",
            )
