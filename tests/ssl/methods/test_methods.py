"""What each method compares with what, and what it keeps from step to step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.catalog.methods import METHODS
from harness.catalog.parameters import filled
from harness.cell import Backbone, Cell, Head, Loss, Method
from harness.ssl import methods, models
from harness.ssl.distributed import World
from harness.ssl.losses import bind
from harness.ssl.losses.pairs import cross_view, queued
from harness.ssl.methods.batch import Batch, Comparison
from harness.ssl.methods.queue import enqueue

N = 12


def build(name: str, loss: str = "infonce", bn_groups: int = 1, bn_passes: int = 1, **parameters: Any) -> Any:
    cell = Cell(
        method=filled(Method(name, **parameters), METHODS[name].parameters),
        loss=Loss(loss),
        backbone=Backbone("convnet", 4),
        head=Head(8, 6),
        batch_size=N,
        bn_groups=bn_groups,
        bn_passes=bn_passes,
    )
    return methods.build(cell, models.build(cell, 1), 2 * N, World())


def batch(step: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(step)
    views = torch.randn(2, N, 1, 8, 8, generator=generator)
    return Batch(lambda part: views[:, part], torch.arange(N), seed=0, step=step)


def compared(method: Any, given: Batch) -> Comparison:
    return method.compare(method(given.whole), method.targets(given), given)  # type: ignore[no-any-return]


def embedded(network: torch.nn.Module, images: Tensor, views: int) -> Tensor:
    return normalize(network(images, views=views), dim=1)


def buffers(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in module.named_buffers() if "running" in name or "tracked" in name}


def plainly(network: Any, view: Tensor) -> Tensor:
    """Embeddings of one view by torch's own layers."""
    return network.projector(network.encoder(view))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("name", "parameters"), [("simclr", {}), ("nnclr", {"queue": 20, "predictor": 8})])
def test_views_that_pass_one_after_the_other_are_two_calls_of_the_network(
    name: str, parameters: dict[str, Any]
) -> None:
    method, plain = (build(name, bn_passes=2, **parameters).double() for _ in range(2))
    given = batch()
    images = given.whole.double()
    embeddings = method(images)
    expected = [plainly(plain.network, view) for view in images]
    if name == "nnclr":
        expected += [plain.predictor(z) for z in expected]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(embeddings, expected, strict=True))
    ours, theirs = buffers(method), buffers(plain)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert {int(value) for key, value in ours.items() if "tracked" in key} == {2}
    for outputs in (embeddings, expected):
        sum(z.square().sum() for z in outputs[-2:]).backward()
    for ours_, theirs_ in zip(method.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours_.grad, theirs_.grad, rtol=1e-12, atol=1e-12)
    together = build(name, **parameters).double()(images)
    assert float((together[-1] - embeddings[-1]).detach().abs().max()) > 1e-3


def test_keys_of_both_views_pass_one_after_the_other() -> None:
    moco, plain = (build("moco", queue=24, symmetric=True, bn_passes=2) for _ in range(2))
    given = batch()
    with torch.no_grad():
        expected = [normalize(plainly(plain.keys, view), dim=1) for view in given.whole]
    assert all(torch.equal(*keys) for keys in zip(moco.targets(given), expected, strict=True))
    assert buffers(moco.keys).keys() == buffers(plain.keys).keys()
    assert all(torch.equal(buffers(moco.keys)[key], value) for key, value in buffers(plain.keys).items())


def test_groups_of_views_that_pass_one_after_the_other_hold_one_view_each() -> None:
    grouped = build("simclr", bn_groups=3, bn_passes=2).double()
    images = batch().whole.double()
    z1, z2 = grouped(images)
    statistics = []
    for group in range(3):
        alone = build("simclr").double()
        for z, view in ((z1, images[0]), (z2, images[1])):
            torch.testing.assert_close(plainly(alone.network, view.chunk(3)[group]), z.chunk(3)[group])
        statistics.append(buffers(alone))
    for key, ours in buffers(grouped).items():
        mean = torch.stack([found[key].double() for found in statistics]).mean(0)
        torch.testing.assert_close(ours.double(), mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("rows", [3, 4, 10])
def test_a_queue_holds_the_newest_rows(rows: int, steps: int) -> None:
    queue = torch.full((8, 2), -1.0)
    pushed = torch.arange(2.0 * rows * steps).view(steps, rows, 2)
    for step, newest in enumerate(pushed):
        enqueue(queue, newest, step)
    expected = pushed.flatten(0, 1)[-8:]
    held = {tuple(row) for row in queue.tolist()}
    assert {tuple(row) for row in expected.tolist()} <= held
    assert sum(row[0] < 0 for row in held) <= 1


def test_moco_compares_queries_with_keys_of_the_average_and_a_queue() -> None:
    moco = build("moco", "dcl", queue=20, ema=0.9)
    given = batch()
    queue = moco.queue.clone()
    q, k = embedded(moco.network, given.whole[0], 1), embedded(moco.keys, given.whole[1], 1)
    expected = bind(Loss("dcl"))(q, k, pairs=lambda a, b: queued(a, b, queue))
    comparison = compared(moco, given)
    torch.testing.assert_close(comparison.loss, expected)
    assert not comparison.second.requires_grad
    moco.after_step(given, comparison)
    torch.testing.assert_close(moco.queue[:N], comparison.second)
    assert torch.equal(moco.queue[N:], queue[N:])


def test_symmetric_moco_is_the_mean_of_both_directions() -> None:
    moco = build("moco", queue=20, symmetric=True)
    given = batch()
    q, k = (embedded(net, given.whole.flatten(0, 1), 2).chunk(2) for net in (moco.network, moco.keys))
    loss = bind(Loss("infonce"))
    both = [loss(q[i], k[1 - i], pairs=lambda a, b: queued(a, b, moco.queue)) for i in (0, 1)]
    torch.testing.assert_close(compared(moco, given).loss, (both[0] + both[1]) / 2)


def test_the_key_encoder_follows_the_network() -> None:
    moco = build("moco", queue=20, ema=0.75)
    with torch.no_grad():
        for parameter in moco.network.parameters():
            parameter.add_(1)
    before = [parameter.clone() for parameter in moco.keys.parameters()]
    given = batch()
    moco.after_step(given, compared(moco, given))
    for old, new, trained in zip(before, moco.keys.parameters(), moco.network.parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * trained)
        assert not new.requires_grad


def test_shuffled_keys_change_their_statistics_and_nothing_else() -> None:
    # In evaluation mode batch norm has no groups: shuffling there and back is then without effect.
    shuffled = build("moco", queue=20, bn_groups=3)
    plain = build("moco", queue=20, bn_groups=3, shuffle=False)
    given = batch()
    assert float((compared(shuffled, given).second - compared(plain, given).second).abs().max()) > 1e-3
    fresh = [build("moco", queue=20, bn_groups=3, shuffle=flag).eval() for flag in (True, False)]
    torch.testing.assert_close(compared(fresh[0], given).second, compared(fresh[1], given).second)
    one = [compared(build("moco", queue=20, shuffle=flag), given).loss for flag in (True, False)]
    assert torch.equal(*one)


def test_simo_draws_the_same_columns_for_every_query_and_others_at_every_step() -> None:
    simo = build("simo", "infonce", negatives=4)
    given = batch()
    comparison = compared(simo, given)
    similarities = comparison.pairs(comparison.first, comparison.second)
    assert similarities.negatives.shape == (N, 4)
    columns = given.random_order("columns", N - 1)[:4]
    q, k = embedded(simo.network, given.whole[0], 1), embedded(simo.keys, given.whole[1], 1)
    for i in range(N):
        others = [j for j in range(N) if j != i]
        torch.testing.assert_close(similarities.negatives[i], torch.stack([q[i] @ k[others[c]] for c in columns]))
    assert not torch.equal(columns, replace(given, step=1).random_order("columns", N - 1)[:4])


def test_simo_with_enough_negatives_takes_all_other_keys() -> None:
    simo = build("simo", "infonce", negatives=256)
    comparison = compared(simo, batch())
    assert comparison.pairs(comparison.first, comparison.second).count == N - 1


def test_nnclr_takes_neighbours_from_the_queue_and_negatives_from_the_other_view() -> None:
    nnclr = build("nnclr", "dcl", queue=20, predictor=8)
    given = batch()
    queue = nnclr.queue.clone()
    z = nnclr.network(given.whole.flatten(0, 1))
    z1, z2 = normalize(z, dim=1).chunk(2)
    p1, p2 = normalize(nnclr.predictor(z), dim=1).chunk(2)
    nearest = [torch.stack([queue[(queue @ one).argmax()] for one in view]) for view in (z1, z2)]
    loss = bind(Loss("dcl"))
    expected = (loss(nearest[0], p2, pairs=cross_view) + loss(nearest[1], p1, pairs=cross_view)) / 2
    comparison = compared(nnclr, given)
    torch.testing.assert_close(comparison.loss, expected)
    comparison.loss.backward()
    assert all(parameter.grad is not None for parameter in nnclr.parameters())
    nnclr.after_step(given, comparison)
    torch.testing.assert_close(nnclr.queue[:N], z1.detach())


def test_sogclr_stores_its_averages_by_training_image() -> None:
    simclr = build("simclr", "sogclr")
    given = replace(batch(), rows=torch.arange(N) + 5)
    simclr.after_step(given, compared(simclr, given))
    assert simclr.log_u[5 : 5 + N].isfinite().all()
    assert simclr.log_u[:5].isneginf().all()
    assert simclr.log_u[5 + N :].isneginf().all()
    assert "log_u" in simclr.state_dict()


def test_losses_that_take_any_norm_get_the_embeddings_as_they_are() -> None:
    given = batch()
    for loss, unit in (("vicreg", False), ("infonce", True)):
        norms = compared(build("simclr", loss), given).first.norm(dim=1)
        assert bool(((norms - 1).abs() < 1e-5).all()) == unit
