"""The code that knows of more than one process; losses and methods see the whole batch.

A cell runs as W ranks that each hold 1/W of every batch. Ranks gather all embeddings and each computes the loss of the
whole batch: whatever a loss does with the batch (a softmax over samples, a covariance), it is that of one process. The
gather's backward sums the W equal gradients and takes the own slice; DDP then averages over ranks, so that parameters
get exactly the gradient of one process. (The same sum with every rank computing its own anchors only would be exact
too, and taking the own slice without the sum gives 1/W of the gradient.)
"""

from __future__ import annotations

import ctypes
import inspect
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

# Imported before any process group exists: the defaults of its functions would otherwise hold the first group until
# the process ends.
import torch.distributed.nn.functional
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

#: How long ranks wait for each other: while rank 0 evaluates an encoder the others are idle.
PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class World:
    """The rank of this process among the ``size`` processes of its cell.

    ``control`` is the process group for agreements on the host, so that no GPU waits for them.
    """

    rank: int = 0
    size: int = 1
    control: dist.ProcessGroup | None = None

    def local_rows(self, rows: Tensor) -> Tensor:
        """Return this rank's rows of a batch; the ranks hold consecutive parts of it."""
        return rows.chunk(self.size)[self.rank]

    def broadcast_from_rank0(self, value: Any) -> Any:
        """Return rank 0's object on every rank."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def any_of(self, *flags: bool) -> list[bool]:
        """Return which flags are raised on any rank; the exchange goes through the host, so that no GPU waits."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(raised, dist.ReduceOp.MAX, group=self.control)
        return [bool(flag) for flag in raised]

    def average_statistics(self, module: nn.Module) -> None:
        """Average batch norm's running statistics over the ranks, after every step and by one collective.

        Other buffers (queues, moving averages) are computed from gathered embeddings and equal everywhere.
        """
        if self.size == 1:
            return
        running = [b for name, b in module.named_buffers() if name.endswith(("running_mean", "running_var"))]
        together = torch.cat(running)
        dist.all_reduce(together)
        together /= self.size
        for buffer, mean in zip(running, together.split([len(b) for b in running]), strict=True):
            buffer.copy_(mean)


def own_device(kind: str) -> torch.device:
    """Return the CPU, or the GPU of this process: on one machine every rank has its own."""
    if kind == "cpu":
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


@contextmanager
def joined(device: torch.device, patience: timedelta = PATIENCE) -> Iterator[World]:
    """Join the process group that the launcher's environment describes (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT)."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    _die_with_launcher()
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=patience)
    try:
        yield World(dist.get_rank(), size, dist.new_group(backend="gloo", timeout=patience))
    finally:
        dist.destroy_process_group()


def _die_with_launcher() -> None:
    """End this rank when its launcher is killed (on Linux; elsewhere ranks end when a collective fails)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() == 1 and b"torch" not in Path("/proc/1/cmdline").read_bytes():
            raise SystemExit("the launcher was killed while this rank was importing torch")


def parallel(module: nn.Module, world: World) -> nn.Module:
    """Return ``module`` wrapped so that its gradients are averaged over ranks while they are computed.

    Batch norm's buffers are averaged by ``World.average_statistics``; DDP would overwrite them with rank 0's.
    """
    if world.size == 1:
        return module
    known = inspect.signature(DistributedDataParallel).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # renamed in torch 2.13
    return DistributedDataParallel(module, **{option: False})  # type: ignore[arg-type]


def unsynchronized(model: nn.Module, *, unless: bool) -> AbstractContextManager[None]:
    """Let gradients of a ``parallel`` model add up on this rank inside the context.

    They are averaged over ranks by the next backward pass outside of it.
    """
    if unless or not isinstance(model, DistributedDataParallel):
        return nullcontext()
    waiting: AbstractContextManager[None] = model.no_sync()
    return waiting


class _Gather(torch.autograd.Function):
    """Gather (n, ...) of each rank to (W n, ...) in the order of ranks; backward sums over ranks and takes a slice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


class _Sum(torch.autograd.Function):
    """Sum over the ranks of a group; every rank's loss depends on the sum, so its backward is a sum, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total, None


def gather(x: Tensor) -> Tensor:
    """Return the rows of all ranks in the order of ranks: (n, ...) -> (W n, ...), differentiable."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return x
    gathered: Tensor = _Gather.apply(x)  # type: ignore[no-untyped-call]
    return gathered


def differentiable_all_reduce(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Return the sum over the ranks of a group; it is differentiable."""
    summed: Tensor = _Sum.apply(x, group)  # type: ignore[no-untyped-call]
    return summed


def all_reduce_sum(x: Tensor) -> Tensor:
    """Return the sum over all ranks, without a gradient."""
    summed = x.clone()
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(summed)
    return summed


def batchnorm_process_group(world: World, groups: int) -> dist.ProcessGroup | None:
    """Return the process group of the ranks that share this rank's batch-norm group.

    None where a rank holds whole groups.
    """
    if groups >= world.size:
        return None
    members = world.size // groups
    group_of_rank = None
    for first in range(0, world.size, members):  # every rank must take part in making every group
        group = dist.new_group(list(range(first, first + members)), timeout=PATIENCE)
        if first <= world.rank < first + members:
            group_of_rank = group
    return group_of_rank
