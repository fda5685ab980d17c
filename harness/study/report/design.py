"""The design of an experiment in words: what was trained, with which settings, and how it was evaluated."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from harness.catalog.backbones import BACKBONES
from harness.catalog.losses import LOSSES, LossEntry
from harness.catalog.methods import METHODS, MethodEntry
from harness.catalog.optimizers import OPTIMIZERS, OWN_SETTINGS, SCHEDULES
from harness.catalog.parameters import filled
from harness.cell import Loss, Method, Optimizer, short_name
from harness.manifest import Manifest
from harness.study.report.document import Design
from harness.study.report.evaluation_text import added, described
from harness.study.text import axis_label, percent, value_label
from harness.trees import Scalar


def design(manifest: Manifest) -> Design:
    """Return what the manifest says of all cells: the values of every axis, and the settings that do not vary."""
    common = manifest.common
    backbone, head, views, optimizer = common.backbone, common.head, common.views, common.optimizer
    values: dict[str, list[Scalar]] = {"temperature": [common.loss.temperature], "epochs": [common.epochs]}
    values |= {"steps": [common.steps], "lr": [optimizer.lr]}
    values |= {short_name(path): declared for path, declared in manifest.axes.items()}
    losses, methods = values.pop("loss", [common.loss.name]), values.pop("method", [common.method.name])
    seeds = values.pop("seed", [common.seed])
    known = {name: [value for value in declared if value is not None] for name, declared in values.items()}
    entry = BACKBONES[backbone.name]
    stem = entry.stem_label(backbone.stem)
    return Design(
        methods=[_with_parameters(replace(common.method, name=str(name)), METHODS, values) for name in methods],
        losses=[_with_parameters(replace(common.loss, name=str(name)), LOSSES, values) for name in losses],
        varied="; ".join(
            f"{axis_label(name)} {', '.join(map(str, declared))}" for name, declared in known.items() if declared
        ),
        seeds=", ".join(map(str, seeds)),
        backbone=entry.label + (f" ({stem})" if stem else ""),
        width=str(backbone.width),
        head_layers=str(head.layers),
        head_hidden=str(head.hidden or head.dim),
        head_dim=str(head.dim),
        bn_groups=_number(common.bn_groups) if common.bn_groups != 1 else "",
        bn_passes=_number(common.bn_passes) if common.bn_passes != 1 else "",
        crop_min=percent(views.crop_min),
        flip=f"{views.flip:g}",
        jitter=f"{views.jitter:g}",
        gray=f"{views.gray:g}",
        blur=f"{views.blur:g}" if views.blur else "",
        optimizer=_optimizer(optimizer),
        momentum=_number(optimizer.momentum),
        weight_decay=_number(optimizer.weight_decay),
        lr_rule=optimizer.lr_rule,
        warmup=_warmup(optimizer),
        schedule=_schedule(optimizer),
        precision=common.precision,
        validation=percent(common.dataset.validation),
        evaluation=f"{described(manifest.evaluation)}{added(manifest)}",
    )


def _optimizer(optimizer: Optimizer) -> str:
    """Return the optimiser with those of its settings that are declared: ``LARS (trust 0.02, clip lr true)``."""
    declared = {name: getattr(optimizer, name) for name in (*OWN_SETTINGS, "decay_all", "clip_norm")}
    words = [f"{axis_label(name)} {str(value).lower()}" for name, value in declared.items() if value is not None]
    label = OPTIMIZERS[optimizer.name].label
    return f"{label} ({', '.join(words)})" if words else label


def _warmup(optimizer: Optimizer) -> str:
    if optimizer.warmup_steps is not None:
        return f"{optimizer.warmup_steps} steps"
    return f"{_number(optimizer.warmup_epochs)} epochs"


def _schedule(optimizer: Optimizer) -> str:
    end = f" to {optimizer.lr_end:g} of the rate" if optimizer.lr_end else " to zero"
    return SCHEDULES[optimizer.schedule] + (end if optimizer.schedule == "cosine" else "")


def _number(value: float | None) -> str:
    """Return a setting in words; a field without a value follows from others and differs between cells."""
    return "derived" if value is None else f"{value:g}"


def _with_parameters(
    declared: Loss | Method, entries: Mapping[str, LossEntry] | Mapping[str, MethodEntry], axes: Collection[str]
) -> str:
    """Return a loss or method with its parameters that are on no axis: ``DCLW (sigma 0.5, detach weights true)``."""
    if declared.name not in entries:
        return declared.name
    parameters = entries[declared.name].parameters
    values = vars(filled(declared, parameters))
    fixed = {key: values[key] for key in parameters if key in values and key not in axes}
    text = ", ".join(f"{key.replace('_', ' ')} {str(value).lower()}" for key, value in fixed.items())
    return value_label(type(declared).__name__.lower(), declared.name) + (f" ({text})" if text else "")
