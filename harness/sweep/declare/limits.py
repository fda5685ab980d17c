"""The allowed values of single fields."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from harness.catalog import HEAD_NORMS, LR_RULES, PRECISIONS
from harness.catalog.backbones import BACKBONES, STEMS
from harness.catalog.losses import LOSSES
from harness.catalog.methods import METHODS
from harness.catalog.optimizers import OPTIMIZERS, SCHEDULES
from harness.cell import OWN, Cell, paths, short_name
from harness.datasets import DATASETS
from harness.errors import UserError, nearest
from harness.evaluation import LINEAR_PROBES
from harness.plugins import NO_LOSSES
from harness.trees import Node, Scalar

NAMES: dict[str, Collection[str]] = {
    "method.name": METHODS,
    "loss.name": LOSSES,
    "dataset.name": DATASETS,
    "backbone.name": BACKBONES,
    "backbone.stem": STEMS,
    "head.norm": HEAD_NORMS,
    "optimizer.name": OPTIMIZERS,
    "optimizer.lr_rule": LR_RULES,
    "optimizer.schedule": SCHEDULES,
    "precision": PRECISIONS,
    "cluster.device": ("auto", "cpu", "cuda"),
    "cluster.scheduler": ("none", "slurm"),
    "evaluate.linear": LINEAR_PROBES,
}

#: The closed interval of each field; None is no limit.
LIMITS: dict[str, tuple[float | None, float | None]] = {
    "dataset.image_size": (4, 1024),
    "views.crop_min": (0.01, 1),
    "views.flip": (0, 1),
    "views.jitter": (0, 1),
    "views.gray": (0, 1),
    "views.blur": (0, 1),
    "backbone.width": (1, 1024),
    "head.hidden": (1, None),
    "head.dim": (2, None),
    "head.layers": (1, 8),
    "optimizer.momentum": (0, 0.9999),
    "optimizer.weight_decay": (0, None),
    "optimizer.warmup_epochs": (0, None),
    "optimizer.warmup_steps": (0, None),
    "optimizer.lr_end": (0, 1),
    "optimizer.beta2": (0, 0.999999),
    "batch_size": (2, None),
    "bn_groups": (1, None),
    "bn_passes": (1, 2),
    "epochs": (1, None),
    "steps": (1, None),
    "seed": (0, 2**31 - 1),
    "cluster.slots": (1, None),
    "cluster.gpus": (1, None),
    "cluster.nodes": (1, None),
    "cluster.micro_batch": (2, None),
    "cluster.ask_hours": (0, None),
    "cluster.cpus": (1, None),
    "cluster.memory": (0.1, None),
    "cluster.throttle": (1, None),
    "cluster.max_jobs": (1, None),
    "cluster.cells_per_job": (1, None),
    "cluster.grace": (1, 3600),
    "failures.retries": (0, None),
    "failures.max_failures": (1, None),
    "failures.alike": (1, None),
    "budget.epochs": (1, None),
    "budget.steps": (1, None),
    "evaluate.knn_k": (1, None),
    "evaluate.penalty": (0, None),
    "evaluate.linear_epochs": (1, None),
    "evaluate.every": (1, None),
    "evaluate.curve_bank": (1, None),
}

#: The fields that must be larger than zero.
POSITIVE = (
    "optimizer.lr",
    "optimizer.trust",
    "optimizer.bias_lr",
    "optimizer.clip_norm",
    "cluster.time",
    "evaluate.knn_temperature",
    "dataset.validation",
)


def check_value(path: str, value: Node) -> Scalar:
    """Return the value in its declared type.

    Raises:
        UserError: wrong type, unknown name, or out of range.
    """
    kind = type_of(path)
    fits = isinstance(value, (int, float) if kind is float else kind)
    fits = fits and isinstance(value, bool) == (kind is bool)
    if not fits:
        read = ", as which YAML reads no, off and yes, on without quotes" if isinstance(value, bool) else ""
        raise UserError(f"{value!r}{read} is not of type {kind.__name__}", allowed=kind.__name__)
    checked: Scalar = kind(value)
    check_range(path, checked)
    return checked


def type_of(path: str) -> type[Any]:
    """Return the type of a field: str, bool, float or int."""
    types = (float,) if path.startswith(OWN) else paths(Cell)[path]
    return next(kind for kind in (str, bool, float, int) if kind in types)


def check_range(path: str, value: Any) -> None:
    """Raise a UserError if the value is unknown or out of range."""
    if path == "loss.name" and value not in LOSSES and value in NO_LOSSES:
        raise NO_LOSSES[value]
    if path in NAMES and value not in NAMES[path]:
        raise UserError(
            f"unknown {short_name(path)} '{value}'{nearest(value, NAMES[path])}",
            allowed=", ".join(NAMES[path]),
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{value} is no number", allowed="a finite number")
    low, high = LIMITS.get(path, (None, None))
    if (low is not None and value < low) or (high is not None and value > high):
        limits = f"{low:g} <= value" if high is None else f"{low:g} <= value <= {high:g}"
        raise UserError(f"{value} is out of range", allowed=limits)
    if path in POSITIVE and not value > 0:
        raise UserError(f"{value} is out of range", allowed="value > 0")
