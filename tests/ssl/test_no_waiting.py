"""A training step never reads a value back: on a GPU each read would make the host wait for the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.catalog.losses import LOSSES
from harness.catalog.methods import METHODS
from harness.catalog.parameters import filled
from harness.cell import Backbone, Cell, Head, Loss, Method, Optimizer
from harness.ssl import gradient, methods, models, optim
from harness.ssl.distributed import World
from harness.ssl.evaluate.diagnostics import StepDiagnostics
from harness.ssl.losses.validation import skip_value_checks
from harness.ssl.methods.batch import Batch
from harness.ssl.methods.micro_batches import micro_batches

N = 12
READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero"}
COMBINATIONS = [("simclr", loss) for loss in LOSSES] + [
    (method, loss)
    for method, entry in METHODS.items()
    if not entry.every_loss
    for loss, known in LOSSES.items()
    if known.negatives == "pairs"
]


class Refuse(TorchDispatchMode):
    """Raises where an operation needs a value on the host, or shapes its result by values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in READS, f"{name} reads a value"
        masks = [index for index in args[1] if index is not None] if name in ("index", "index_put_") else []
        assert all(index.dtype != torch.bool for index in masks), f"{name} by a mask reads its values"
        return func(*args, **(kwargs or {}))


def step(method_name: str, loss: str, bn_groups: int, optimizer: str, micro_batch: int = N) -> torch.Tensor:
    known = METHODS[method_name].parameters
    cell = Cell(
        method=filled(Method(method_name, queue=16 if "queue" in known else None), known),
        loss=Loss(loss),
        backbone=Backbone("convnet", 2),
        head=Head(4, 4),
        optimizer=Optimizer(optimizer),
        batch_size=N,
        bn_groups=bn_groups,
        precision="bf16",
    )
    method = methods.build(cell, models.build(cell, 1), N, World(), N // micro_batch)
    stepper = optim.build(cell.optimizer, method.parameters())
    views = torch.randn(2, N, 1, 8, 8)
    batch = Batch(
        lambda part: views[:, part], torch.arange(N), seed=0, step=0, micro_batches=micro_batches(N, micro_batch)
    )
    with skip_value_checks(), Refuse():
        comparison = gradient.backward(method, method, batch)
        gradients = [p.grad for p in method.parameters() if p.grad is not None]
        StepDiagnostics().update(comparison, 0.1, torch.nn.utils.get_total_norm(gradients))
        stepper.step()
        method.after_step(batch, comparison)
    return comparison.loss


@pytest.mark.parametrize(("method", "loss"), COMBINATIONS)
def test_no_value_is_read_in_a_step(method: str, loss: str) -> None:
    assert step(method, loss, bn_groups=1, optimizer="sgd").isfinite()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_nor_with_batch_norm_groups_and_lars(method: str) -> None:
    assert step(method, "infonce", bn_groups=3, optimizer="lars").isfinite()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_nor_with_micro_batches(method: str) -> None:
    assert step(method, "infonce", bn_groups=3, optimizer="sgd", micro_batch=4).isfinite()


def test_a_read_would_be_found() -> None:
    with Refuse(), pytest.raises(AssertionError, match="reads a value"):
        float(torch.ones(()))
    with Refuse(), pytest.raises(AssertionError, match="by a mask"):
        _ = torch.ones(3)[torch.tensor([True, False, True])]
