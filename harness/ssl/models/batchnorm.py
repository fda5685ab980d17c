"""Batch norm over declared groups of the global batch, however many processes compute it.

``bn_groups: g`` divides the samples of a batch into g groups, each with both views of its samples, as g ranks without
synchronisation would. A rank holds one whole group or several, or a part of a group, whose statistics it computes
together with its neighbours (SyncBN). Running statistics are the mean over groups, updated once a step. With
``bn_passes: 2`` the views pass one after the other: a group has one view at a time, and running statistics are updated
by view 1, then by view 2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from harness.ssl.distributed import World, batchnorm_process_group, differentiable_all_reduce


class GroupedBatchNorm(_BatchNorm):
    """Batch norm of any number of spatial dimensions; its batch consists of ``groups`` consecutive groups.

    ``peers``: the ranks that hold the other parts of this rank's group; None if this rank holds whole groups.
    """

    groups: int
    peers: dist.ProcessGroup | None

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` normalised: in training by the statistics of its group, whose mean the running ones follow."""
        if not self.training:
            normalized: Tensor = super().forward(x)
            return normalized
        if self.peers is not None:
            normalized, mean, variance = self._synchronized(x, self.peers)
        else:
            groups = [self._group(group) for group in x.chunk(self.groups)]
            normalized = torch.cat([part for part, _, _ in groups])
            mean = torch.stack([mean for _, mean, _ in groups]).mean(0)
            variance = torch.stack([variance for _, _, variance in groups]).mean(0)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
        return normalized

    def _group(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalised group, its mean and its unbiased variance, which torch leaves in running statistics of
        momentum 1."""
        mean, variance = torch.zeros_like(self.weight), torch.ones_like(self.weight)
        normalized = batch_norm(x, mean, variance, self.weight, self.bias, training=True, momentum=1.0, eps=self.eps)
        return normalized, mean, variance

    def _synchronized(self, x: Tensor, peers: dist.ProcessGroup) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same over all peers, in two passes: a sum of squares minus a squared mean loses all digits."""
        dimensions = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        count = wide.numel() // wide.shape[1] * dist.get_world_size(peers)
        mean = differentiable_all_reduce(wide.sum(dimensions), peers) / count
        centred = wide - mean.view(shape)
        variance = differentiable_all_reduce(centred.square().sum(dimensions), peers) / count
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalized = centred * scale.view(shape) + self.bias.view(shape)
        return normalized.to(x.dtype), mean.detach(), variance.detach() * (count / (count - 1))


def in_groups(module: Callable[[Tensor], Tensor], x: Tensor, views: int, groups: int) -> Tensor:
    """Apply ``module`` to ``views`` stacked views of n samples, (views n, ...), with each batch-norm group in one block
    that holds all views of its samples; the rows of the result are ordered as those of ``x``."""
    if views == 1 or groups == 1:
        return module(x)
    y = module(x.unflatten(0, (views, groups, -1)).transpose(0, 1).flatten(0, 2))
    restored: Tensor = y.unflatten(0, (groups, views, -1)).transpose(0, 1).flatten(0, 2)
    return restored


def group(module: nn.Module, bn_groups: int, world: World, micro_batches: int) -> None:
    """Give every batch norm inside ``module`` its groups, and every network the number of groups that it sees at a
    time: those in one of this rank's micro-batches."""
    held = max(1, bn_groups // (world.size * micro_batches))
    peers = batchnorm_process_group(world, bn_groups)
    if held == 1 and peers is None:
        return  # a single group, which it sees as a whole: plain batch norm
    for inner in list(module.modules()):
        if hasattr(inner, "bn_groups"):
            inner.bn_groups = held  # type: ignore[assignment]  # a plain number among the module's attributes
        for name, child in inner.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(inner, name, _grouped(child, held, peers))


def _grouped(plain: _BatchNorm, held: int, peers: dist.ProcessGroup | None) -> GroupedBatchNorm:
    grouped = GroupedBatchNorm(plain.num_features, eps=plain.eps, momentum=plain.momentum)
    grouped.weight, grouped.bias = plain.weight, plain.bias  # the same objects: a frozen parameter stays frozen
    grouped.load_state_dict(plain.state_dict())
    grouped.groups, grouped.peers = held, peers
    return grouped
