"""A batch in micro-batches: the gradient, the statistics and the queues of one pass, in the memory of one part."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.catalog.losses import LOSSES
from harness.catalog.methods import encodes_both_views
from harness.cell import Backbone, Cell, Head, Loss
from harness.ssl import gradient, methods, models
from harness.ssl.distributed import World
from harness.ssl.losses.validation import skip_value_checks
from harness.ssl.measure.step_cost import LiveTensorBytes
from harness.ssl.methods.batch import Batch
from harness.ssl.methods.micro_batches import micro_batches
from tests.support.ranks import COMBINATIONS, N, declared, train

#: With both views together, and for methods whose networks encode both, one after the other.
PASSES = [
    (name, loss, passes) for name, loss in COMBINATIONS for passes in (1, 2)[: 1 + encodes_both_views(declared(name))]
]


@pytest.mark.parametrize(("name", "loss", "bn_passes"), PASSES)
@pytest.mark.parametrize(("bn_groups", "micro_batch"), [(2, 8), (4, 4), (8, 4), (8, 2)])
def test_micro_batches_train_what_the_whole_batch_trains(
    name: str, loss: str, bn_passes: int, bn_groups: int, micro_batch: int
) -> None:
    whole = train(name, loss, bn_groups, World(), bn_passes=bn_passes)
    parts = train(name, loss, bn_groups, World(), micro_batch=micro_batch, bn_passes=bn_passes)
    assert whole.keys() == parts.keys()
    assert any("running_var" in key for key in whole)
    assert any(key.startswith("gradient ") for key in whole)
    for key, expected in whole.items():
        torch.testing.assert_close(
            parts[key], expected, rtol=1e-10, atol=1e-10, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize("loss", [name for name, entry in LOSSES.items() if not entry.file])
def test_every_loss_has_the_gradient_of_the_whole_batch(loss: str) -> None:
    # One step: a second one would start from weights that some losses have thrown far off.
    whole, parts = (train("simclr", loss, 4, World(), micro_batch=size, steps=1) for size in (None, 4))
    for key, expected in whole.items():
        assert_equal(parts[key], expected, key)


def assert_equal(ours: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    scale = 1 + float(expected.abs().max())
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10 * scale, msg=lambda text: f"{what}: {text}")


@given(samples=st.integers(1, 64), size=st.one_of(st.none(), st.integers(1, 80)))
def test_parts_hold_every_sample_once_and_are_no_larger_than_asked(samples: int, size: int | None) -> None:
    parts = micro_batches(samples, size)
    assert [row for part in parts for row in range(samples)[part]] == list(range(samples))
    assert all(len(range(samples)[part]) <= (size or samples) for part in parts)
    assert (len(parts) == 1) == (size is None or size >= samples)


def peak(batch_size: int, micro_batch: int | None) -> int:
    """Bytes of the tensors of a step at its worst moment."""
    torch.manual_seed(0)
    cell = Cell(
        loss=Loss("dcl"),
        backbone=Backbone("convnet", 8),
        head=Head(8, 8),
        batch_size=batch_size,
        bn_groups=batch_size // (micro_batch or batch_size),
    )
    parts = micro_batches(batch_size, micro_batch)
    method = methods.build(cell, models.build(cell, 3), batch_size, World(), len(parts))
    images = torch.randint(0, 256, (batch_size, 3, 16, 16), dtype=torch.uint8)

    def share(part: slice) -> torch.Tensor:
        return (images[part].float() / 255).expand(2, -1, -1, -1, -1)

    with skip_value_checks(), LiveTensorBytes(lambda size: "all") as live:
        gradient.backward(method, method, Batch(share, torch.arange(batch_size), seed=0, step=0, micro_batches=parts))
    return live.peak["all"]


def test_a_batch_of_sixteen_times_the_size_takes_a_quarter_more_memory() -> None:
    assert peak(1024, micro_batch=64) < 1.25 * peak(64, None)


def test_the_first_pass_keeps_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    forward = methods.SimCLR.forward
    monkeypatch.setattr(
        methods.SimCLR, "forward", lambda self, views: seen.append(torch.is_grad_enabled()) or forward(self, views)
    )
    train("simclr", "infonce", 4, World(), micro_batch=N // 4)
    assert seen == 3 * ([False] * 4 + [True] * 4)
