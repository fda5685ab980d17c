"""The checks of whole cells, before anything runs; an error names the field of the cell as its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.catalog.backbones import BACKBONES
from harness.catalog.losses import LOSSES
from harness.catalog.methods import METHODS, encodes_both_views
from harness.catalog.optimizers import OPTIMIZERS, OWN_SETTINGS
from harness.catalog.parameters import Parameter
from harness.cell import Cell, Optimizer
from harness.datasets import DATASETS, DatasetFiles, FixedDataset, ImageFolder
from harness.errors import UserError
from harness.evaluation import LINEAR_PROBES, Evaluation
from harness.sweep.expand.image_counts import bank_count, steps_of, steps_per_epoch, train_count


def check_parts(cell: Cell, files: DatasetFiles) -> None:
    """Raise a UserError if loss, method, data set and backbone cannot be combined."""
    _check_parameters("loss", cell.loss, LOSSES[cell.loss.name].parameters)
    _check_parameters("method", cell.method, METHODS[cell.method.name].parameters)
    if LOSSES[cell.loss.name].negatives != "pairs" and not METHODS[cell.method.name].every_loss:
        raise UserError(
            f"{cell.method.name} chooses the candidates of each query, which {cell.loss.name} cannot take",
            key="loss.name",
            allowed=", ".join(name for name, entry in LOSSES.items() if entry.negatives == "pairs"),
        )
    if cell.bn_passes > 1 and not encodes_both_views(cell.method):
        raise UserError(
            f"each network of {cell.method.name} encodes one view of a sample, in one pass",
            key="bn_passes",
            allowed="1" + (", or method.symmetric=true" if cell.method.symmetric is not None else ""),
        )
    if cell.dataset.validation > 0.5 or train_count(cell, files) == files.train:
        held_out = files.train - train_count(cell, files)
        what = f"{held_out} of {files.train} training images would be held out"
        raise UserError(what, key="dataset.validation", allowed=f"{1 / files.train:.2g} <= value <= 0.5")
    dataset = DATASETS[cell.dataset.name]
    if cell.dataset.stream and not isinstance(dataset, ImageFolder):
        what = f"{cell.dataset.name} is held in memory; only an image folder is streamed"
        raise UserError(what, key="dataset.stream", allowed="false, or dataset=imagefolder")
    check_backbone(cell)
    if isinstance(dataset, FixedDataset) and dataset.image_size != cell.dataset.image_size:
        raise UserError(
            f"{cell.dataset.name} has images of {dataset.image_size} pixels",
            key="dataset.image_size",
            allowed=str(dataset.image_size),
        )


def check_sizes(cell: Cell, files: DatasetFiles) -> None:
    """Raise a UserError if batch size, batch-norm groups and warm-up cannot be combined."""
    train = train_count(cell, files)
    if cell.batch_size > train:
        raise UserError(
            f"batch size {cell.batch_size} is larger than the {train} training images "
            f"({files.train} less {cell.dataset.validation:.0%} for validation)",
            key="batch_size",
            allowed=f"2 <= value <= {train}",
        )
    if cell.batch_size % cell.bn_groups or cell.batch_size // cell.bn_groups < 2:
        raise UserError(
            f"a batch of {cell.batch_size} cannot be divided into {cell.bn_groups} groups of at least two samples",
            key="bn_groups",
            allowed=f"a divisor of {cell.batch_size}, at most {cell.batch_size // 2}",
        )
    _check_optimizer(cell.optimizer)
    _check_warmup(cell, files)


def _check_optimizer(optimizer: Optimizer) -> None:
    """Raise a UserError if a setting is declared that the optimiser or the schedule does not have."""
    for name in OWN_SETTINGS:
        if getattr(optimizer, name) is not None and name not in OPTIMIZERS[optimizer.name].own:
            having = [other for other, entry in OPTIMIZERS.items() if name in entry.own]
            raise UserError(
                f"{optimizer.name} has no {name}",
                key=f"optimizer.{name}",
                allowed=f"null, or optimizer.name: {' or '.join(having)}",
            )
    if optimizer.lr_end and optimizer.schedule != "cosine":
        raise UserError(
            f"the schedule {optimizer.schedule} does not end at a part of the rate",
            key="optimizer.lr_end",
            allowed="0, or optimizer.schedule: cosine",
        )
    if optimizer.warmup_steps is not None and optimizer.warmup_epochs:
        raise UserError(
            "the warm-up is declared in epochs and in steps",
            key="optimizer.warmup_steps",
            allowed="null, or optimizer.warmup_epochs: 0",
        )


def _check_warmup(cell: Cell, files: DatasetFiles) -> None:
    """Raise a UserError if the warm-up takes the whole training."""
    steps = steps_of(cell, files)
    if cell.optimizer.warmup_steps is not None and cell.optimizer.warmup_steps >= steps:
        raise UserError(
            f"a warm-up of {cell.optimizer.warmup_steps} steps leaves nothing of {steps}",
            key="optimizer.warmup_steps",
            allowed=f"0 <= value < {steps}",
        )
    epochs = cell.steps / steps_per_epoch(cell, files) if cell.steps else cell.epochs
    if cell.optimizer.warmup_epochs >= epochs:
        raise UserError(
            f"a warm-up of {cell.optimizer.warmup_epochs:g} epochs leaves nothing of {epochs:g}",
            key="optimizer.warmup_epochs",
            allowed=f"0 <= value < {epochs:g}",
        )


def _check_parameters(group: str, component: Any, known: Mapping[str, Parameter]) -> None:
    for name, limits in known.items():
        value = getattr(component, name) if hasattr(component, name) else component.own[name]
        if value not in limits:
            raise UserError(
                f"{component.name}: {name} {value} is out of range", key=f"{group}.{name}", allowed=str(limits)
            )


def check_backbone(cell: Cell) -> None:
    """Raise a UserError if the encoder does not take images of this size."""
    size, backbone = cell.dataset.image_size, cell.backbone
    fitting = [
        f"{name} with the {stem} stem"
        for name, entry in BACKBONES.items()
        for stem, sides in entry.sides.items()
        if size in sides
    ]
    stems = BACKBONES[backbone.name].sides
    if backbone.stem not in stems:
        raise UserError(f"{backbone.name} has no stem '{backbone.stem}'", key="backbone.stem", allowed=", ".join(stems))
    if size not in stems[backbone.stem]:
        what = f"{backbone.name} with the {backbone.stem} stem takes images of {stems[backbone.stem]}, not {size}"
        raise UserError(what, key="backbone.name", allowed=", ".join(fitting))


def check_world(cell: Cell, world_size: int, micro_batch: int | None) -> None:
    """Raise a UserError if the ranks cannot share the batch and its batch-norm groups equally, or if a micro-batch
    would cut a batch-norm group."""
    if cell.batch_size % world_size:
        raise UserError(
            f"{world_size} ranks cannot share a batch of {cell.batch_size}",
            key="cluster.gpus",
            allowed=f"a divisor of {cell.batch_size}",
        )
    if cell.bn_groups % world_size and world_size % cell.bn_groups:
        raise UserError(
            f"{world_size} ranks cannot hold {cell.bn_groups} batch-norm groups",
            key="cluster.gpus",
            allowed=f"a divisor or a multiple of bn_groups ({cell.bn_groups})",
        )
    if micro_batch is None:
        return
    if (share := cell.batch_size // world_size) % micro_batch:
        raise UserError(
            f"micro-batches of {micro_batch} cannot make up the {share} samples that a process holds of a batch",
            key="cluster.micro_batch",
            allowed=f"a divisor of {share}",
        )
    if cell.bn_groups % (cell.batch_size // micro_batch):
        raise UserError(
            f"a batch-norm group of {cell.batch_size // cell.bn_groups} samples does not pass the network whole in "
            f"micro-batches of {micro_batch}: its statistics need all of it at once",
            key="bn_groups",
            allowed=f"bn_groups: a multiple of {cell.batch_size // micro_batch} at batch size {cell.batch_size}, or "
            f"derive: {{bn_groups: {{groups_of: {micro_batch}}}}} for every batch size",
        )


def check_evaluation(evaluation: Evaluation, cell: Cell, files: DatasetFiles) -> None:
    """Raise a UserError if the evaluation needs more neighbours than there are images, or its probe has no setting."""
    bank = min(bank_count(cell, files), evaluation.curve_bank)
    if evaluation.knn_k > bank:
        raise UserError(
            f"{evaluation.knn_k} neighbours are more than the bank of {bank} images",
            key="evaluate.knn_k",
            allowed=f"1 <= value <= {bank}",
        )
    needed = LINEAR_PROBES[evaluation.linear]
    if getattr(evaluation, needed) is None:
        what = f"the linear probe '{evaluation.linear}' needs {needed}"
        raise UserError(what, key=f"evaluate.{needed}", allowed="a number")
