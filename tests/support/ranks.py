"""What several ranks compute, to be compared with one process.

``torchrun -m tests.support.ranks OUT MICRO_BATCH GROUPS``, or ``compute()`` in one process.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.catalog.losses import LOSSES
from harness.catalog.methods import METHODS, encodes_both_views
from harness.catalog.parameters import filled
from harness.cell import Backbone, Cell, Head, Loss, Method, Optimizer
from harness.ssl import distributed, gradient, methods, models, optim
from harness.ssl.distributed import World, gather
from harness.ssl.losses import FUNCTIONS
from harness.ssl.methods.batch import Batch
from harness.ssl.methods.micro_batches import micro_batches

N, STEPS = 16, 3

#: Every method, with losses that need more of the batch than their anchors' own similarities.
COMBINATIONS = [
    ("simclr", "infonce"),
    ("simclr", "dclw"),
    ("simclr", "sogclr"),
    ("simclr", "vicreg"),
    ("simclr", "barlow_twins"),
    ("moco", "infonce"),
    ("moco symmetric", "dcl"),
    ("simo", "eqco"),
    ("nnclr", "infonce"),
    ("nnclr", "dcl"),
]
PARAMETERS = {
    "moco": {"queue": 24, "ema": 0.9},
    "moco symmetric": {"queue": 24, "ema": 0.9, "symmetric": True},
    "simo": {"negatives": 5, "ema": 0.9},
    "nnclr": {"queue": 24, "predictor": 8},
    "simclr": {},
}


def compute(bn_groups: list[int], world: World, micro_batch: int | None = None) -> dict[str, Any]:
    """Values and gradients of every loss, and the state of every method after some steps."""
    found: dict[str, Any] = {f"loss {name}": loss_and_gradient(name, world) for name in LOSSES}
    for name, loss in COMBINATIONS:
        for groups in bn_groups:
            found[f"{name} {loss} bn_groups={groups}"] = train(name, loss, groups, world, micro_batch=micro_batch)
            if encodes_both_views(declared(name)) and groups in (bn_groups[0], bn_groups[-1]):
                found[f"{name} {loss} bn_groups={groups} bn_passes=2"] = train(
                    name, loss, groups, world, micro_batch=micro_batch, bn_passes=2
                )
    found["simclr infonce lars"] = train("simclr", "infonce", bn_groups[0], world, optimizer="lars")
    return found


def declared(name: str) -> Method:
    """A method of a combination, with all its parameters."""
    method = name.partition(" ")[0]
    return filled(Method(method, **PARAMETERS[name]), METHODS[method].parameters)


def loss_and_gradient(name: str, world: World) -> dict[str, Tensor]:
    """Of embeddings that each rank holds its share of; the gradient is that of all rows, as DDP would average it."""
    generator = torch.Generator().manual_seed(0)
    z1, z2 = torch.randn(2, N, 6, generator=generator, dtype=torch.float64)
    own = [world.local_rows(z).requires_grad_() for z in (z1, z2)]
    gathered = [gather(z) for z in own]
    if LOSSES[name].unit_norm:
        gathered = [normalize(z, dim=1) for z in gathered]
    parameters = {key: known.default for key, known in LOSSES[name].parameters.items()}
    state = LOSSES[name].state
    stored = {state.name: torch.linspace(-1, 1, N, dtype=torch.float64)} if state else {}
    value = FUNCTIONS[name](*gathered, **parameters, **stored)
    value = value[0] if isinstance(value, tuple) else value
    gradients = torch.autograd.grad(value, own)
    with torch.no_grad():
        return {"value": value.detach(), "gradient": torch.cat([gather(g / world.size) for g in gradients])}


def train(
    name: str,
    loss: str,
    bn_groups: int,
    world: World,
    optimizer: str = "sgd",
    micro_batch: int | None = None,
    steps: int = STEPS,
    bn_passes: int = 1,
) -> dict[str, Any]:
    """Losses, last gradients and the whole state of a method after some steps on random images, in float64."""
    cell = Cell(
        method=declared(name),
        loss=Loss(loss),
        backbone=Backbone("convnet", 4),
        head=Head(8, 6),
        optimizer=Optimizer(optimizer, lr=0.5),
        batch_size=N,
        bn_groups=bn_groups,
        bn_passes=bn_passes,
    )
    network = models.build(cell, 1)
    parts = micro_batches(N // world.size, micro_batch)
    method = methods.build(cell, network, 2 * N, world, len(parts)).double()
    model = distributed.parallel(method, world)
    stepper = optim.build(cell.optimizer, method.parameters())
    generator = torch.Generator().manual_seed(1)
    losses = []
    for step in range(steps):
        images = torch.randn(2, N, 1, 8, 8, generator=generator, dtype=torch.float64)
        rows = torch.randperm(2 * N, generator=generator)[:N]
        own = torch.stack([world.local_rows(view) for view in images])
        batch = Batch(lambda part, own=own: own[:, part], rows, seed=0, step=step, micro_batches=parts)  # type: ignore[misc]
        for group in stepper.param_groups:
            group["lr"] = 0.5
        stepper.zero_grad()
        comparison = gradient.backward(model, method, batch)
        stepper.step()
        method.after_step(batch, comparison)
        world.average_statistics(method)
        losses.append(comparison.loss.detach())
    gradients = {f"gradient {name}": p.grad for name, p in method.named_parameters() if p.grad is not None}
    return {"losses": torch.stack(losses), **gradients, **method.state_dict()}


def main() -> None:
    with distributed.joined(torch.device("cpu")) as world:
        result = compute([int(groups) for groups in sys.argv[3:]], world, int(sys.argv[2]) or None)
        if world.rank == 0:
            torch.save(result, sys.argv[1])


if __name__ == "__main__":
    main()
