"""The logarithm of sums of exponentials over rows of a matrix of products that never exists as a whole.

All that a sample-contrastive loss needs of its A x C similarities is one number an anchor, ``log sum_c exp(x_a y_c)``.
It is computed tile by tile; the gradient computes each tile again from the embeddings (as Dao et al. 2022, arXiv
2205.14135, do for attention). Memory is O(A + C) d, and exact: no term is left out or rounded otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Products in a tile are about this squared. On a CPU a tile and its temporaries stay in the cache. forward + backward
#: of 8,192 anchors with each other, d = 128, on two cores: 404, 346, 310 and 341 ms with 256, 512, 768 and 1,024, and
#: 1,322 ms with the whole matrix and autograd; of 2,048 anchors 26, 25, 28 and 28 ms, and 62. A GPU starts some thirty
#: kernels a tile, at some microseconds each: there a tile is larger, 16 MiB. From MANY anchors on, a CPU's have
#: twice the side: as fast, and a plan that traces a step for its memory walks through a fourth of the tiles.
TILE, MANY, GPU_TILE = 512, 8192, 2048


@dataclass(frozen=True)
class Map:
    """An elementwise function of cosines, homogeneous of a degree: ``f(s c) = s^degree f(c)`` for s > 0."""

    of: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    degree: int


SQUARE = Map(torch.square, lambda cosines: 2 * cosines, 2)
ABSOLUTE = Map(torch.abs, torch.sign, 1)


def log_sums(
    x: Tensor, y: Tensor | None = None, *, excluded: tuple[int, ...] = (), function: Map | None = None
) -> Tensor:
    """``log sum_c exp(f(x_a y_c))`` of every row a, over all c but ``a + offset`` for the offsets that are excluded.

    Args:
        x: (A, d).
        y: (C, d); None stands for x itself, whose products are symmetric: half of them are computed.
        excluded: of every offset its negative too, where y is None. A row keeps at least one term.
        function: f; None is the identity.

    Returns:
        (A,). Gradients of its gradient are computed through the whole matrix.
    """
    height, width = _shape(x, y is None)
    one_tile = function is None and x.shape[0] <= height and (x if y is None else y).shape[0] <= width
    in_tiles: Tensor = (_InOneTile if one_tile else _InTiles).apply(x, y, excluded, function)  # type: ignore[no-untyped-call]
    return in_tiles


class _InOneTile(torch.autograd.Function):
    """The sums of so few rows that their exponentials may be kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, excluded: tuple[int, ...], function: Map | None) -> Tensor:
        terms = x @ (x if y is None else y).T
        _without(excluded, terms, slice(0, terms.shape[0]), slice(0, terms.shape[1]))
        top = terms.amax(1, keepdim=True)
        exponentials = terms.sub_(top).exp_()
        total = exponentials.sum(1)
        ctx.save_for_backward(x, y, exponentials, total)
        ctx.symmetric, ctx.excluded, ctx.function = y is None, excluded, function
        return total.log().add_(top.squeeze(1))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        if torch.is_grad_enabled():
            return *_gradients_with_a_graph(ctx, gradient), None, None
        x, y, exponentials, total = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            weights = exponentials * (gradient / total)[:, None]
            if ctx.symmetric:
                return (weights + weights.T) @ x, None, None, None
            of_x = weights @ y if ctx.needs_input_grad[0] else None
            return of_x, weights.T @ x if ctx.needs_input_grad[1] else None, None, None


class _InTiles(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, excluded: tuple[int, ...], function: Map | None) -> Tensor:
        symmetric, y = y is None, x if y is None else y
        height, width = _shape(x, symmetric)
        tops, totals = x.new_empty(2, -(-y.shape[0] // width), x.shape[0]).unbind()
        for rows, columns in _tiles(x, y, symmetric):
            terms = x[rows] @ y[columns].T
            terms = _without(excluded, terms if function is None else function.of(terms), rows, columns)
            tile = columns.start // width, rows
            tops[tile], totals[tile] = _top_and_total(terms, 1)
            if symmetric and rows != columns:
                tile = rows.start // height, columns
                tops[tile], totals[tile] = _top_and_total(terms, 0)
        top = tops.amax(0)
        total = totals.mul_(tops.sub_(top).exp_()).sum(0)
        # Not their sum: where logits are near 1 / temperature, it has lost the digits that weights depend on.
        ctx.save_for_backward(x, y, top, total)
        ctx.symmetric, ctx.excluded, ctx.function = symmetric, excluded, function
        return total.log().add_(top)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """``dL / d(x_a y_c) = gradient_a exp(f(x_a y_c) - sums_a) f'(x_a y_c)``."""
        if torch.is_grad_enabled():
            return *_gradients_with_a_graph(ctx, gradient), None, None
        x, y, top, total = ctx.saved_tensors
        gradient = gradient / total
        of_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        of_y = of_x if ctx.symmetric else torch.zeros_like(y) if ctx.needs_input_grad[1] else None
        with torch.autocast(x.device.type, enabled=False):
            for rows, columns in _tiles(x, y, ctx.symmetric):
                products = x[rows] @ y[columns].T
                terms = products if ctx.function is None else ctx.function.of(products)
                terms = _without(ctx.excluded, terms, rows, columns)
                weights = (terms - top[rows, None]).exp_().mul_(gradient[rows, None])
                if ctx.symmetric:
                    weights.addcmul_(terms.sub_(top[columns]).exp_(), gradient[columns])
                if ctx.function is not None:
                    weights.mul_(ctx.function.slope(products))
                if of_x is not None:
                    of_x[rows].addmm_(weights, y[columns])
                if of_y is not None and not (ctx.symmetric and rows == columns):
                    of_y[columns].addmm_(weights.T, x[rows])
        return of_x, None if ctx.symmetric else of_y, None, None


def _gradients_with_a_graph(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """What ``create_graph`` asks for, by autograd."""
    x, y, *_ = ctx.saved_tensors
    asked = [z for z, needed in zip((x, y), ctx.needs_input_grad, strict=False) if needed]
    products = x @ (x if ctx.symmetric else y).T
    terms = products if ctx.function is None else ctx.function.of(products)
    sums = _without(ctx.excluded, terms, slice(0, terms.shape[0]), slice(0, terms.shape[1])).logsumexp(1)
    found = iter(torch.autograd.grad(sums, asked, gradient, create_graph=True))
    of_x, of_y = (next(found) if needed else None for needed in ctx.needs_input_grad[:2])
    return of_x, of_y


def _shape(x: Tensor, symmetric: bool) -> tuple[int, int]:
    """Rows and columns of a tile, which is wide where there are few rows."""
    side = GPU_TILE if x.device.type != "cpu" else TILE if x.shape[0] < MANY else 2 * TILE
    height = side if symmetric else min(side, x.shape[0])
    return height, side**2 // height


def _tiles(x: Tensor, y: Tensor, symmetric: bool) -> Iterator[tuple[slice, slice]]:
    """All tiles, or those on and above the diagonal."""
    height, width = _shape(x, symmetric)
    for top in range(0, x.shape[0], height):
        for left in range(top if symmetric else 0, y.shape[0], width):
            yield slice(top, min(top + height, x.shape[0])), slice(left, min(left + width, y.shape[0]))


def _top_and_total(terms: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The largest term, and the sum of exponentials of what the terms exceed it by; 0 where all are excluded."""
    top = terms.amax(dim, keepdim=True).clamp_(min=torch.finfo(terms.dtype).min)
    return top.squeeze(dim), (terms - top).exp_().sum(dim)


def _without(excluded: tuple[int, ...], terms: Tensor, rows: slice, columns: slice) -> Tensor:
    """A tile with -inf in place of the excluded terms."""
    for offset in excluded:
        diagonal = rows.start + offset - columns.start
        if -terms.shape[0] < diagonal < terms.shape[1]:
            terms.diagonal(diagonal).fill_(-torch.inf)
    return terms
