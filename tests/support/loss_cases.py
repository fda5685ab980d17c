"""Embeddings and parameters for the tests of the losses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from harness.catalog.losses import LOSSES
from harness.ssl.losses import FUNCTIONS
from harness.ssl.losses.pairs import SampledPairs, cross_view, queued, two_views
from tests.support import oracles

NAMES = sorted(LOSSES)
OF_PAIRS = [name for name in NAMES if LOSSES[name].negatives == "pairs"]
SAMPLE_CONTRASTIVE = [name for name in NAMES if LOSSES[name].negatives in ("pairs", "both views", "other view")]
PAIRS = ["two_views", "cross_view", "cross_view_columns", "queued"]


def unit_views(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two views of n samples that resemble each other, of norm 1, in float64."""
    generator = torch.Generator().manual_seed(seed)
    base, *noise = torch.randn(3, n, d, generator=generator, dtype=torch.float64)
    return normalize(base + 0.7 * noise[0], dim=1), normalize(base + 0.7 * noise[1], dim=1)


def free_views(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The same at other norms, with dimensions of unequal spread and means that are not 0."""
    generator = torch.Generator().manual_seed(seed + 1000)
    norms = 4 ** (2 * torch.rand(2, n, 1, generator=generator, dtype=torch.float64) - 1)
    spread = torch.linspace(0.5, 2, d, dtype=torch.float64)
    offset = 0.3 * torch.randn(d, generator=generator, dtype=torch.float64)
    z1, z2 = unit_views(n, d, seed)
    return norms[0] * spread * z1 + offset, norms[1] * spread * z2 + offset


def views_of(name: str, n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Embeddings as the loss takes them."""
    return (unit_views if LOSSES[name].unit_norm else free_views)(n, d, seed)


def defaults(name: str, **given: object) -> dict[str, Any]:
    """The catalogue's parameters of a loss, with those given instead."""
    return {key: parameter.default for key, parameter in LOSSES[name].parameters.items()} | given


def stored_state(name: str, n: int, seed: int = 0) -> dict[str, Tensor]:
    """What the loss keeps of n samples, as its argument; half of them never visited."""
    state = LOSSES[name].state
    if state is None:
        return {}
    generator = torch.Generator().manual_seed(seed)
    stored = torch.randn(n, generator=generator, dtype=torch.float64)
    return {state.name: torch.where(torch.arange(n) % 2 == 0, stored, state.initial)}


def averages(n: int, seed: int = 0) -> Tensor:
    """SogCLR's stored log u."""
    return stored_state("sogclr", n, seed)["log_u"]


def loss_of(name: str, n: int, seed: int = 0, **given: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss with the catalogue's parameters as a function of two views of n samples."""
    bound = partial(FUNCTIONS[name], **defaults(name, **{**stored_state(name, n, seed), **given}))
    if LOSSES[name].state is None:
        return bound
    return lambda z1, z2: bound(z1, z2)[0]


def gradients(loss: Callable[[Tensor, Tensor], Tensor], z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    z1, z2 = z1.detach().requires_grad_(), z2.detach().requires_grad_()
    first, second = torch.autograd.grad(loss(z1, z2), (z1, z2))
    return first, second


def kinds_of_pairs(kind: str, n: int, d: int, seed: int = 0) -> tuple[Callable[..., Any], oracles.Pairs]:
    """Who is compared with whom, for a loss and for its oracle."""
    generator = torch.Generator().manual_seed(seed + 2000)
    if kind == "two_views":
        return two_views, oracles.two_views
    if kind == "cross_view":
        return cross_view, oracles.cross_view
    if kind == "cross_view_columns":
        columns = torch.randperm(n - 1, generator=generator)[: max(1, n // 2)]
        return partial(cross_view, columns=columns), partial(oracles.cross_view, columns=columns.tolist())
    queue = normalize(torch.randn(n + 3, d, generator=generator, dtype=torch.float64), dim=1)
    return partial(queued, queue=queue), partial(oracles.queued, queue=queue.tolist())


def two_views_in_full(z1: Tensor, z2: Tensor) -> SampledPairs:
    """``two_views`` with a matrix of the negatives' cosines, without those that are none."""
    n = z1.shape[0]
    anchors = torch.cat([z1, z2])
    cosines = anchors @ anchors.T
    others = ~torch.eye(n, dtype=torch.bool).repeat(2, 2)
    return SampledPairs((z1 * z2).sum(1).repeat(2), cosines[others].view(2 * n, 2 * n - 2))


def in_full(kind: str, n: int, d: int, seed: int = 0) -> Callable[[Tensor, Tensor], SampledPairs]:
    """The pairs of ``kinds_of_pairs``, each anchor's cosines in a matrix."""
    if kind == "two_views":
        return two_views_in_full
    if kind == "cross_view":
        others = ~torch.eye(n, dtype=torch.bool)
        return lambda q, k: SampledPairs((q * k).sum(1), (q @ k.T)[others].view(n, n - 1))
    if kind == "cross_view_columns":
        return partial(cross_view, columns=kinds_of_pairs(kind, n, d, seed)[0].keywords["columns"])  # type: ignore[attr-defined]
    queue = kinds_of_pairs(kind, n, d, seed)[0].keywords["queue"]  # type: ignore[attr-defined]
    return lambda q, k: SampledPairs((q * k).sum(1), q @ queue.to(q.dtype).T)


def anchors_of(whole: SampledPairs, which: slice | Tensor) -> SampledPairs:
    """Some of the anchors, with all their negatives."""
    return SampledPairs(whole.positives[which], whole.negatives[which])


# N, d and the seed of the embeddings: mostly small batches, because loops in Python are slow.
shapes = st.tuples(
    st.one_of(st.integers(2, 6), st.integers(2, 16), st.integers(2, 64)), st.integers(2, 16), st.integers(0, 99)
)

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0.005, 10),
    "sigma": st.floats(0.1, 5),
    "alpha": st.floats(1, 1e4),
    "gamma": st.floats(0, 1),
    "mu": st.floats(0.1, 10),
    "redundancy": st.floats(0, 1),
    "invariance": st.floats(0, 50),
    "variance": st.floats(0, 50),
    "covariance": st.floats(0, 50),
    "detach_weights": st.booleans(),
    "square_positive": st.booleans(),
    "abs_positive": st.booleans(),
    "unit_norm": st.booleans(),
}


def parameters_of(name: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({key: _VALUES[key] for key in LOSSES[name].parameters})
