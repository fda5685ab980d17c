"""The division of one machine among cells."""

from __future__ import annotations

from dataclasses import dataclass

from harness.environment.cpu import cores
from harness.environment.gpus import gpus
from harness.errors import UserError


@dataclass(frozen=True)
class Slots:
    """How many processes run at a time.

    Attributes:
        threads: the threads of each process.
        device: cpu or cuda.
        memory: the bytes for all of them together; 0 if unknown.
    """

    count: int
    threads: int
    device: str
    memory: int = 0


def divide(cells: int, slots: int | None, device: str, world_size: int = 1) -> Slots:
    """Divide this machine among ``cells`` cells, ``slots`` of them at a time, of at most ``world_size`` processes.

    The division depends on the experiment, not on what is left of it: an interrupted cell goes on with as many
    threads as it began with, and so to the same numbers. On CPUs, one thread a cell trains the most samples per second.

    Raises:
        UserError: the device is cuda and there is no GPU, or fewer than a cell has processes.
    """
    available = cores()
    cuda = gpus() if device in ("auto", "cuda") else []
    if device == "cuda" and not cuda:
        raise UserError("this machine has no GPU to use", where="cluster.device", allowed="auto, cpu")
    if cuda and world_size > len(cuda):
        what = f"{world_size} processes of a cell need a GPU each, and there are {len(cuda)}"
        raise UserError(what, where="cluster.gpus", allowed=f"1 <= value <= {len(cuda)}, or cluster.device=cpu")
    count = min(slots or max(1, (len(cuda) or available) // world_size), cells) * world_size
    return Slots(count, max(1, available // count), "cuda" if cuda else "cpu")
