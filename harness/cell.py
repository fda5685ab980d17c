"""CONTRACT 1. A Cell is one training run, fully typed; its identity is ``cell_id``.

Everything that changes a run's numbers is a field here, and nothing else is: devices, paths, threads, logging and
evaluation reach a run through its record's submission.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import operator
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from harness.trees import Scalar

T = TypeVar("T")

#: Metadata of a field that no user declares: the sweep derives it from the rest.
DERIVED = {"derived": True}

#: Where the parameters of a user's own loss stand.
OWN = "loss.own."

#: Fields that were added after cells had been trained, with the value that those cells were trained with. While a cell
#: holds it, the field is left out of the identity. A default may change; a value here never does.
BIRTH_VALUES: dict[str, Scalar] = {
    "backbone.stem": "cifar",
    "bn_groups": 1,
    "bn_passes": 1,
    "dataset.stream": False,
    "head.layers": 2,
    "head.norm": "hidden",
    "loss.detach_weights": True,
    "optimizer.lr_end": 0.0,
    "optimizer.schedule": "cosine",
    "steps": None,
    "views.blur": 0.0,
}

#: How an identity is written: sorted keys, no spaces.
_written = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@dataclass(frozen=True)
class Component:
    """A part of a cell. Thousands of cells share one, which is therefore written once."""

    @functools.cached_property
    def canonical(self) -> str:
        """This component's part of ``canonical_json``."""
        return _written(_identity(dataclasses.asdict(self), type(self).__name__.lower()))


@dataclass(frozen=True)
class Loss(Component):
    """Parameters as the catalogue describes them; None where the loss does not have one.

    ``temperature`` divides every similarity; ``own``: parameters of a user's loss that no other loss has.
    """

    name: str = "infonce"
    temperature: float | None = 0.1
    sigma: float | None = None
    detach_weights: bool | None = None
    alpha: float | None = None
    square_positive: bool | None = None
    abs_positive: bool | None = None
    mu: float | None = None
    invariance: float | None = None
    variance: float | None = None
    covariance: float | None = None
    unit_norm: bool | None = None
    redundancy: float | None = None
    gamma: float | None = None
    own: dict[str, float] | None = None
    source: str | None = field(default=None, metadata=DERIVED)


@dataclass(frozen=True)
class Method(Component):
    """``queue``: embeddings kept of earlier batches; ``ema``: momentum of the key encoder; ``symmetric``: both views
    are queries in turn; ``shuffle``: keys change their batch-norm groups; ``negatives``: keys drawn a step;
    ``predictor``: its hidden units. None where the method has none.
    """

    name: str = "simclr"
    queue: int | None = None
    ema: float | None = None
    symmetric: bool | None = None
    shuffle: bool | None = None
    negatives: int | None = None
    predictor: int | None = None


@dataclass(frozen=True)
class Dataset(Component):
    """``image_size``: side in pixels; ``validation``: the fraction held out of the labelled training images;
    ``stream``: images are read while they are used, and crops cut from the whole image."""

    name: str = "digits"
    image_size: int = 8
    validation: float = 0.1
    fingerprint: str = field(default="", metadata=DERIVED)
    stream: bool = False


@dataclass(frozen=True)
class Views(Component):
    """``crop_min``: smallest area of a crop; ``jitter``: SimCLR's strength; ``gray``, ``flip``, ``blur``:
    probabilities."""

    crop_min: float = 0.2
    flip: float = 0.5
    jitter: float = 0.5
    gray: float = 0.2
    blur: float = 0.0


@dataclass(frozen=True)
class Backbone(Component):
    """``width``: channels of the first stage; ``stem``: cifar (3x3, no max-pool) or imagenet (7x7, max-pool)."""

    name: str = "resnet18"
    width: int = 64
    stem: str = "cifar"


@dataclass(frozen=True)
class Head(Component):
    """The projector: ``layers`` linear layers, the inner ones of ``hidden`` units (None: as many as ``dim``), the last
    of ``dim``.

    ``norm``: batch norm after the hidden layers (hidden), after every layer (all), or nowhere (none).
    """

    hidden: int | None = 512
    dim: int = 128
    layers: int = 2
    norm: str = "hidden"


@dataclass(frozen=True)
class Optimizer(Component):
    """``lr`` is the learning rate at batch 256; ``lr_rule`` scales it: constant, linear or sqrt in the batch size.

    ``warmup_epochs``, or ``warmup_steps`` in its place: the length of the linear warm-up; ``schedule``: cosine,
    constant or step; ``lr_end``: where the cosine ends, as a part of the peak. ``decay_all``: whether weight decay acts
    also on biases and norms; None: as the optimiser's first code has it, which is no in LARS and yes in the others.
    ``clip_norm``: the largest norm of the whole gradient. ``bias_lr``: the rate of biases and norms at batch 256.
    ``trust``: LARS's trust coefficient, .001 if None; ``clip_lr``: a weight's rate in LARS is at most the learning
    rate. ``momentum`` is Adam's first beta, ``beta2`` its second, .999 if None.
    """

    name: str = "sgd"
    lr: float = 0.06
    lr_rule: str = "linear"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: float = 0.0
    warmup_steps: int | None = None
    schedule: str = "cosine"
    lr_end: float = 0.0
    decay_all: bool | None = None
    clip_norm: float | None = None
    bias_lr: float | None = None
    trust: float | None = None
    clip_lr: bool | None = None
    beta2: float | None = None


@dataclass(frozen=True)
class Cell:
    """One training run, of ``epochs`` epochs, or where ``steps`` is a number, of so many optimiser steps: ``epochs`` is
    then how many they begin.

    ``bn_groups``: how many groups batch norm takes its statistics over, each with both views of its share of the
    global batch, as so many ranks would; 1 is the whole batch. ``bn_passes``: in how many passes the two views of a
    sample go through a network: 1, together, so that batch norm's statistics are of both; 2, one view after the other,
    each with its own statistics.
    """

    method: Method = field(default_factory=Method)
    loss: Loss = field(default_factory=Loss)
    dataset: Dataset = field(default_factory=Dataset)
    views: Views = field(default_factory=Views)
    backbone: Backbone = field(default_factory=Backbone)
    head: Head = field(default_factory=Head)
    optimizer: Optimizer = field(default_factory=Optimizer)
    batch_size: int = 256
    bn_groups: int = 1
    bn_passes: int = 1
    epochs: int = 1
    steps: int | None = None
    precision: str = "fp32"
    seed: int = 0
    versions: Mapping[str, int] = field(default_factory=dict, metadata=DERIVED)

    @functools.cached_property
    def cell_id(self) -> str:
        """The first 12 hex digits of the sha256 of the canonical JSON."""
        return _digest(canonical_json(self))


def versionless_id(cell: Cell) -> str:
    """Return 12 hex digits of all but the versions, which stay when a component's version is raised."""
    return _digest(canonical_json(cell, without="versions"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


#: The fields in the order of their names, and how each begins.
_BEGINNINGS = [(name, f'"{name}":') for name in sorted(item.name for item in fields(Cell))]


def canonical_json(cell: Cell, without: str = "") -> str:
    """Return JSON with sorted keys and no spaces, without fields that are None (no part of the run) and
    without those that hold their birth value."""
    parts, values = [], vars(cell)
    for name, beginning in _BEGINNINGS:
        value = values[name]
        if isinstance(value, Component):
            parts.append(beginning + value.canonical)
        elif value is not None and name != without and value != BIRTH_VALUES.get(name):
            parts.append(beginning + (str(value) if type(value) is int else _written_plain(name, value)))
    return "{" + ",".join(parts) + "}"


def _written_plain(name: str, value: Any) -> str:
    return _written_versions(tuple(value.items())) if name == "versions" else _written(value)


@functools.cache
def _written_versions(items: tuple[tuple[str, int], ...]) -> str:
    return _written(_identity(dict(items)))


def _identity(node: Any, path: str = "") -> Any:
    if not isinstance(node, dict):
        return node
    kept = {}
    for key, value in node.items():
        below = f"{path}.{key}" if path else key
        born = below in BIRTH_VALUES and value == BIRTH_VALUES[below]
        if value is not None and not born:
            kept[key] = _identity(value, below)
    return kept


def from_dict(cls: type[T], data: Mapping[str, Any]) -> T:
    """Build a (nested) dataclass from plain data; an unknown key is a TypeError."""
    hints = _hints(typing.cast("Any", cls))
    return cls(
        **{
            key: from_dict(hints[key], value) if is_dataclass(hints.get(key)) else _typed(hints.get(key), value)
            for key, value in data.items()
        }
    )


#: The type hints of a class, which are asked for thousands of times.
_hints = functools.cache(typing.get_type_hints)


def _typed(hint: Any, value: Any) -> Any:
    # JSON and YAML write 1 for 1.0; one number must have one identity.
    if value is not None and (hint is float or float in typing.get_args(hint)):
        return float(value)
    return value


@functools.cache
def paths(cls: Any = Cell, prefix: str = "") -> dict[str, tuple[type, ...]]:
    """Return the dotted paths that a user may declare, each with the types that its values may have:
    ``{"loss.temperature": (float, NoneType), ...}``."""
    types_by_path: dict[str, tuple[type, ...]] = {}
    for item in fields(cls):
        hint = _hints(cls)[item.name]
        types = typing.get_args(hint) or (hint,)
        if item.metadata.get("derived") or any(typing.get_origin(kind) is dict for kind in types):
            continue  # a user's own parameters have names of their own, below OWN
        if is_dataclass(hint):
            types_by_path |= paths(typing.cast("Any", hint), f"{prefix}{item.name}.")
        else:
            types_by_path[prefix + item.name] = types
    return types_by_path


def short_name(path: str) -> str:
    """Return a path's short name: ``loss.name`` is ``loss``, ``loss.temperature`` is ``temperature``."""
    return path.removesuffix(".name").rsplit(".", 1)[-1]


def get(cell: Cell, path: str) -> Scalar:
    """Return the value at a dotted path."""
    return _reader(path)(cell)


@functools.cache
def _reader(path: str) -> Callable[[Cell], Scalar]:
    if path.startswith(OWN):
        name = path.removeprefix(OWN)
        return lambda cell: (cell.loss.own or {}).get(name)
    return operator.attrgetter(path)
