"""The losses behave as the catalogue describes them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.catalog.losses import LOSSES
from harness.cell import Loss
from harness.errors import UserError
from harness.ssl.losses import FUNCTIONS, bind
from harness.ssl.losses.pairs import Similarities, cross_view
from harness.ssl.losses.validation import skip_value_checks
from tests.support.loss_cases import (
    NAMES,
    OF_PAIRS,
    SAMPLE_CONTRASTIVE,
    anchors_of,
    averages,
    defaults,
    gradients,
    loss_of,
    stored_state,
    two_views_in_full,
    unit_views,
    views_of,
)

N, D = 6, 4
IN_DIMENSIONS = [name for name in NAMES if LOSSES[name].negatives == "none"]


def orthogonal(size: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))[0]


def test_functions_and_catalogue_name_the_same_losses() -> None:
    assert sorted(FUNCTIONS) == NAMES


def test_a_bound_loss_has_what_was_declared_and_the_catalogues_defaults_beside_it() -> None:
    views = unit_views(N, D)
    declared = Loss("dclw", temperature=0.3, detach_weights=False)
    expected = FUNCTIONS["dclw"](*views, temperature=0.3, sigma=0.5, detach_weights=False)
    torch.testing.assert_close(bind(declared)(*views), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_samples_does_not_matter(name: str) -> None:
    z1, z2 = views_of(name, N, D)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    reordered = loss_of(name, N, **{key: value[order] for key, value in stored_state(name, N).items()})
    torch.testing.assert_close(reordered(z1[order], z2[order]), loss_of(name, N)(z1, z2), rtol=1e-12, atol=1e-12)


def test_sogclrs_stored_averages_come_in_the_order_of_the_samples() -> None:
    z1, z2 = unit_views(N, D)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    loss = partial(FUNCTIONS["sogclr"], **defaults("sogclr"))
    _, stored = loss(z1, z2, log_u=averages(N))
    _, reordered = loss(z1[order], z2[order], log_u=averages(N)[order])
    torch.testing.assert_close(reordered, stored[order])


@pytest.mark.parametrize("name", NAMES)
def test_the_symmetric_losses_alone_may_swap_the_views(name: str) -> None:
    z1, z2 = views_of(name, N, D)
    loss = loss_of(name, N)
    assert bool((loss(z1, z2) - loss(z2, z1)).abs() < 1e-12) == LOSSES[name].symmetric


@pytest.mark.parametrize("name", SAMPLE_CONTRASTIVE)
def test_a_common_rotation_of_the_embeddings_does_not_matter(name: str) -> None:
    z1, z2 = views_of(name, N, D)
    loss, rotation = loss_of(name, N), orthogonal(D)
    torch.testing.assert_close(loss(z1 @ rotation, z2 @ rotation), loss(z1, z2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_only_losses_of_unit_embeddings_refuse_longer_ones(name: str) -> None:
    z1, z2 = unit_views(N, D)
    for longer, argument in (((1.1 * z1, z2), "z1"), ((z1, 1.1 * z2), "z2")):
        if LOSSES[name].unit_norm:
            with pytest.raises(UserError, match=f"{argument}: row 0 has norm 1.1"):
                loss_of(name, N)(*longer)
        else:
            assert bool(loss_of(name, N)(*longer).isfinite())


# Who is compared with whom: d^2 L / d(one sample) d(another).


def interactions(loss: Any, z1: Tensor, z2: Tensor) -> tuple[bool, bool]:
    """Whether two samples meet within view 1, and whether they meet across the views."""
    z1, z2 = z1.detach().requires_grad_(), z2.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss(z1, z2), z1, create_graph=True)
    within, across = torch.zeros(N, N), torch.zeros(N, N)
    for i in range(N):
        # A fixed direction in place of each of the D coordinates: one that no exact cancellation is likely in.
        second = torch.autograd.grad((slope[i] * torch.arange(1, D + 1)).sum(), (z1, z2), retain_graph=True)
        within[i], across[i] = (block.abs().amax(1) for block in second)
    others = ~torch.eye(N, dtype=torch.bool)
    met = [blocks[others] > 1e-12 for blocks in (within, across)]
    assert all(bool(pairs.all()) or not bool(pairs.any()) for pairs in met)  # every two samples, or none
    return bool(met[0].all()), bool(met[1].all())


MEETINGS = {
    "pairs": (True, True),  # by default both views'
    "both views": (True, True),
    "other view": (False, True),
    "same view": (True, False),
}


@pytest.mark.parametrize("name", [name for name in NAMES if LOSSES[name].negatives in MEETINGS])
def test_samples_meet_where_the_catalogue_says(name: str) -> None:
    assert interactions(loss_of(name, N), *views_of(name, N, D)) == MEETINGS[LOSSES[name].negatives]


@pytest.mark.parametrize("name", OF_PAIRS)
def test_a_loss_of_pairs_compares_whom_it_is_told_to(name: str) -> None:
    # Keys of the other view only. DCLW's undetached weights would let queries meet.
    assert interactions(loss_of(name, N, pairs=cross_view), *views_of(name, N, D)) == (False, True)


@pytest.mark.parametrize("name", NAMES)
def test_losses_without_negatives_see_dimensions_not_samples(name: str) -> None:
    # Mixing the samples by an orthogonal matrix that leaves the mean alone keeps every moment of the dimensions.
    ones = torch.full((N, 1), N**-0.5, dtype=torch.float64)
    basis = torch.linalg.qr(torch.cat([ones, orthogonal(N)[:, 1:]], 1))[0]
    turn = torch.block_diag(torch.ones(1, 1, dtype=torch.float64), orthogonal(N - 1))
    mixing = basis @ turn @ basis.T
    z1, z2 = views_of(name, N, D)
    with skip_value_checks():
        difference = loss_of(name, N)(mixing @ z1, mixing @ z2) - loss_of(name, N)(z1, z2)
    assert bool(difference.abs() < 1e-10) == (name in IN_DIMENSIONS)


# Who may compute which part of it.


def of_rank(rank: int, world: int) -> Any:
    """Two views' pairs of the anchors that are a rank's, among the candidates of all."""

    def pairs(z1: Tensor, z2: Tensor) -> Similarities:
        return anchors_of(two_views_in_full(z1, z2), torch.arange(z1.shape[0]).repeat(2) % world == rank)

    return pairs


@pytest.mark.parametrize("name", OF_PAIRS)
def test_ranks_may_divide_the_anchors_where_the_catalogue_says(name: str) -> None:
    views = unit_views(N, D)
    whole = loss_of(name, N)
    ranks = [loss_of(name, N, pairs=of_rank(rank, 3)) for rank in range(3)]
    same_value = bool((sum(loss(*views) for loss in ranks) / 3 - whole(*views)).abs() < 1e-12)
    parts = torch.stack([torch.cat(gradients(loss, *views)) for loss in ranks]).mean(0)
    same_gradient = bool((parts - torch.cat(gradients(whole, *views))).abs().max() < 1e-12)
    assert same_value == same_gradient == (LOSSES[name].distributed == "anchors")


@pytest.mark.parametrize("name", NAMES)
def test_anchors_add_up_where_the_catalogue_says(name: str) -> None:
    # Given all candidates, the anchors' terms are a sum: moving two of them does what moving each one does.
    z1, z2 = views_of(name, N, D)
    loss = loss_of(name, N, pairs=cross_view) if name in OF_PAIRS else loss_of(name, N)
    moved, _ = views_of(name, N, D, seed=1)
    first, second = (torch.arange(N)[:, None] == i for i in (0, 1))

    def value(chosen: Tensor) -> Tensor:
        return loss(torch.where(chosen, moved, z1), z2)

    mixed = value(first | second) - value(first) - value(second) + value(first & second)
    assert bool(mixed.abs() < 1e-12) == (LOSSES[name].distributed == "anchors")
