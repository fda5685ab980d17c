"""Reads the numbers that papers and other code bases report, from ``papers/*.yaml``: one file for each source.

A file has a ``title``, a ``cite`` (how a report prints it), ``unread`` (tables that could not be read, in words) and::

    shared: {...}               # what all numbers of the file have in common
    numbers:
      ID: {value: 68.2, metric: ..., protocol: ..., setting: {...}, status: ..., read: ..., note: ...}
    tables:                     # many numbers that differ in a few settings
      - ...                     # what all numbers of the table have in common
        columns: {COLUMN: {...}, ...}
        rows: {ROW: {..., values: [one for each column, or null]}, ...}  # ids: ROW_COLUMN

``setting`` has the short names of a Cell's fields (``batch_size``) and ``knn_k`` and ``knn_temperature`` of an
Evaluation; only what was read. A backbone's ``width`` is that of the published network, unless another one was read.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from harness.catalog import HEAD_NORMS, LR_RULES
from harness.catalog.backbones import BACKBONES, STEMS
from harness.catalog.losses import LOSSES
from harness.catalog.methods import METHODS
from harness.catalog.optimizers import OPTIMIZERS
from harness.cell import paths, short_name
from harness.datasets import DATASETS
from harness.errors import UserError, nearest
from harness.study.axes import Setting
from harness.trees import Node, Scalar, Tree

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without its C library
    from yaml import SafeLoader  # type: ignore[assignment]

FOLDER = Path(__file__).parent

#: The ways in which a number was read.
STATUSES = {
    "read-paper": "read in the paper or on its authors' own page",
    "read-code": "read in the authors' code",
    "read-2nd": "read where a third party quotes the paper",
    "read-repro": "somebody else's reproduction",
    "digitised": "measured off a published figure",
    "derived": "computed from numbers that were read",
    "unverified": "not read",
}

#: The metrics of published numbers; harness measures the first two.
METRICS = ("test_knn", "test_linear", "test_knn_top5", "test_linear_top5", "test_finetune")

#: The data sets that papers train on and harness reads as an image folder.
ELSEWHERE = {"imagenet1k": "ImageNet-1K", "imagenet100": "ImageNet-100", "imagenette": "Imagenette"}

#: The names that a setting may have, each as people know it.
NAMES: dict[str, dict[str, str]] = {
    "dataset": {name: entry.label for name, entry in DATASETS.items()} | ELSEWHERE,
    "backbone": {name: entry.label for name, entry in BACKBONES.items()},
    "method": {name: entry.label for name, entry in METHODS.items()},
    "loss": {name: entry.label for name, entry in LOSSES.items()},
    "stem": dict(STEMS),
    "optimizer": {name: entry.label for name, entry in OPTIMIZERS.items()},
    "lr_rule": {name: name for name in LR_RULES},
    "norm": {name: name for name in HEAD_NORMS},
}

#: The settings that must be known before two accuracies are compared.
ESSENTIAL = ("dataset", "backbone", "method", "loss", "batch_size", "epochs")


@dataclass(frozen=True)
class Number:
    """A published accuracy in per cent; ``value`` is None if only its setting was read.

    ``paper``, ``id``: a claim refers to the number as ``paper.id``. ``protocol``: what was measured, in the source's
    words. ``read``: where it was read. ``note``: what a reader should know before comparing anything with it.
    ``also``: what else its source is known to have done otherwise than any cell can, in phrases: an accuracy is never
    comparable with it.
    """

    paper: str
    id: str
    status: str
    read: str
    metric: str
    value: float | None = None
    protocol: str = ""
    setting: Setting = field(default_factory=dict)
    note: str = ""
    also: tuple[str, ...] = ()

    @property
    def published(self) -> bool:
        """Whether the number was read: only then it has a value."""
        return self.status != "unverified"

    @property
    def origin(self) -> Literal["paper", "reproduction"]:
        """Whether the paper's authors report it, or somebody who tried to do the same."""
        return "reproduction" if self.status == "read-repro" else "paper"


@dataclass(frozen=True)
class Paper:
    """A paper or a code base; ``name``: that of its file; ``unread``: what a report says instead of numbers."""

    name: str
    title: str
    cite: str
    numbers: Mapping[str, Number]
    unread: tuple[str, ...] = ()


_PAPER_KEYS = ("title", "cite", "shared", "numbers", "tables", "unread")
_NUMBER_KEYS = [item.name for item in dataclasses.fields(Number) if item.name not in ("paper", "id")]
_SETTING_TYPES = {short_name(path): types for path, types in paths().items()} | {
    "knn_k": (int,),
    "knn_temperature": (float, type(None)),
}
_ID = re.compile(r"[a-z0-9_]+")


def papers() -> dict[str, Paper]:
    """Return every paper by name."""
    return {name: _paper(name) for name in _names()}


def number(reference: str) -> Number:
    """Return the number that ``paper.id`` refers to.

    Raises:
        UserError: There is no such number.
    """
    name, _, identifier = reference.partition(".")
    if name not in _names():
        what = f"unknown paper '{name}'{nearest(name, _names())}"
        raise UserError(what, allowed=", ".join(_names()))
    known = _paper(name).numbers
    if identifier not in known:
        what = f"{name} has no number '{identifier}'{nearest(identifier, known)}"
        raise UserError(what, allowed=", ".join(known) or "none: no number of it could be read")
    return known[identifier]


def described_setting(number: Number) -> str:
    """Return the essential settings that were read, such as ``ImageNet-1K, ResNet-50, SimCLR, DCL, batch size 256``."""
    known = {key: _shown(key, number.setting[key]) for key in ESSENTIAL if key in number.setting}
    return ", ".join(value if key in NAMES else f"{_spaced(key)} {value}" for key, value in known.items())


def differences(number: Number, arm: Setting) -> list[str]:
    """Return in phrases how an arm's settings differ from a number's; empty if they are comparable as far as is known.

    All that was read of the number's setting counts, even if the arm does not have it; so does an essential setting
    that was not read, and what the source did otherwise than any cell can (``also``). Further settings of the arm are
    not compared.

    Args:
        arm: Values by short name as a manifest has them, such as ``{"loss": "dcl", "batch_size": 32}``.
    """
    theirs, ours = _spelled_out(number.setting), _spelled_out(arm)
    differing = [key for key, value in theirs.items() if key not in ours or ours[key] != value]
    unread = [key for key in ESSENTIAL if key not in theirs]
    return [
        *(_difference(key, theirs[key], ours) for key in differing),
        *(f"{_spaced(key)} of the published number not known" for key in unread),
        *number.also,
    ]


def _spelled_out(setting: Setting) -> Setting:
    """Return a setting whose hidden layers have a number: None means that they are as wide as the embeddings."""
    as_wide = "hidden" in setting and setting["hidden"] is None and "dim" in setting
    return {**setting, "hidden": setting["dim"]} if as_wide else setting


def _difference(key: str, theirs: object, arm: Setting) -> str:
    name, published = _spaced(key), _shown(key, theirs)
    if key not in arm:
        return f"{name} not known, {published} published"
    if key == "dataset" and arm[key] == "imagefolder" and theirs in ELSEWHERE:
        return f"{name} an image folder that may or may not be {published}"
    return f"{name} {_shown(key, arm[key])} instead of {published}"


def _spaced(key: str) -> str:
    return key.replace("_", " ")


def _shown(key: str, value: object) -> str:
    """Return a value as people know it."""
    if key in NAMES:
        return NAMES[key].get(str(value), str(value))
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


@functools.cache
def _names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@functools.cache
def _paper(name: str) -> Paper:
    return load(FOLDER / f"{name}.yaml")


def load(path: Path) -> Paper:
    """Return the paper that a file describes.

    Raises:
        ValueError: Something is wrong in the file; the message names the file and the key.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
        return _parsed(path.stem, data)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from None


class _UniqueKeys(SafeLoader):
    """A loader that refuses a key that stands twice in a mapping: YAML itself keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        written = [key.value for key, _ in node.value]
        for key in written:
            if written.count(key) > 1:
                raise ValueError(f"{key}: stands twice in the mapping at line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _parsed(name: str, content: Node) -> Paper:
    data = _mapping(content, "file")
    _check_names(data, _PAPER_KEYS, "file")
    title, cite = (_text(data, key, key) for key in ("title", "cite"))
    unread = {str(index): item for index, item in enumerate(_list(data.get("unread", []), "unread"))}
    numbers: dict[str, Number] = {}
    for key, identifier, entry in _entries(data):
        if identifier in numbers:
            raise ValueError(f"{key}: the id '{identifier}' stands twice")
        numbers[identifier] = _number(name, key, identifier, entry)
    return Paper(name, title, cite, numbers, tuple(_text(unread, index, f"unread[{index}]") for index in unread))


def _entries(data: Tree) -> Iterator[tuple[str, str, Tree]]:
    """Yield the place of each number in the file, its id, and its content."""
    shared = _mapping(data.get("shared", {}), "shared")
    for identifier, content in _mapping(data.get("numbers", {}), "numbers").items():
        key = f"numbers.{identifier}"
        yield key, identifier, _merged(key, shared, _mapping(content, key))
    for index, table in enumerate(_list(data.get("tables", []), "tables")):
        key = f"tables[{index}]"
        yield from _cells(key, shared, _mapping(table, key))


def _cells(key: str, shared: Tree, table: Tree) -> Iterator[tuple[str, str, Tree]]:
    """Yield the place, the id and the content of each number of a table."""
    columns = _mapping(table.get("columns"), f"{key}.columns")
    common = _merged(key, shared, _without(table, "columns", "rows"))
    for name, content in _mapping(table.get("rows"), f"{key}.rows").items():
        place = f"{key}.rows.{name}"
        row = _mapping(content, place)
        values = _list(row.get("values"), f"{place}.values")
        if len(values) != len(columns):
            raise ValueError(f"{place}.values: {len(values)} of them for {len(columns)} columns")
        for (column, about), value in zip(columns.items(), values, strict=True):
            if value is not None:
                layers = (common, _mapping(about, f"{key}.columns.{column}"), _without(row, "values"))
                yield place, f"{name}_{column}", _merged(place, *layers, {"value": value})


def _without(content: Tree, *keys: str) -> Tree:
    return {key: value for key, value in content.items() if key not in keys}


def _merged(key: str, *layers: Tree) -> Tree:
    """Return all keys of the layers, of which later ones count more than earlier ones; their settings are merged, and
    what they did otherwise is put together."""
    merged: dict[str, Node] = {}
    setting: dict[str, Node] = {}
    also: list[Node] = []
    for layer in layers:
        merged |= layer
        setting |= _mapping(layer.get("setting", {}), f"{key}.setting")
        also += _list(layer.get("also", []), f"{key}.also")
    return {**merged, "setting": setting, "also": also}


def _number(paper: str, key: str, identifier: object, content: Tree) -> Number:
    if not isinstance(identifier, str) or not _ID.fullmatch(identifier):
        raise ValueError(f"{key}: an id has small letters, digits and underscores, and is no number")
    _check_names(content, _NUMBER_KEYS, key)
    names = {"status", "read", "metric", *content} - {"value", "setting", "also"}
    texts = {name: _text(content, name, f"{key}.{name}") for name in names}
    _check_name(content["status"], STATUSES, f"{key}.status")
    _check_name(content["metric"], METRICS, f"{key}.metric")
    setting = _mapping(content["setting"], f"{key}.setting")
    _check_names(setting, _SETTING_TYPES, f"{key}.setting")
    values = {name: _checked(name, value, f"{key}.setting.{name}") for name, value in setting.items()}
    phrases = {str(index): phrase for index, phrase in enumerate(_list(content["also"], f"{key}.also"))}
    also = tuple(_text(phrases, index, f"{key}.also[{index}]") for index in phrases)
    return Number(paper, identifier, value=_value(content, f"{key}.value"), setting=values, also=also, **texts)


def _value(content: Tree, key: str) -> float | None:
    value = content.get("value")
    if content["status"] == "unverified":
        if "value" in content:
            raise ValueError(f"{key}: an unverified number has none")
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 100:
        raise ValueError(f"{key}: {value!r} is no accuracy in per cent")
    return float(value)


def _checked(name: str, value: Node, key: str) -> Scalar:
    """Return the value of a setting, which has a type and a name that the field can have."""
    types = _SETTING_TYPES[name]
    fits = type(value) in types or (type(value) is int and float in types)
    if not (isinstance(value, Scalar) and fits):
        known = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
        raise ValueError(f"{key}: {value!r} is no {known}")
    if name in NAMES:
        _check_name(value, NAMES[name], key)
    return value


def _check_names(names: Iterable[str], allowed: Collection[str], key: str) -> None:
    for name in names:
        _check_name(name, allowed, key)


def _check_name(name: Node, allowed: Collection[str], key: str) -> None:
    if name not in allowed:
        raise ValueError(f"{key}: unknown '{name}'{nearest(str(name), allowed)}; allowed: {', '.join(allowed)}")


def _mapping(content: Node, key: str) -> Tree:
    if not isinstance(content, dict):
        raise ValueError(f"{key}: must be a mapping")
    return content


def _list(content: Node, key: str) -> list[Node]:
    if not isinstance(content, list):
        raise ValueError(f"{key}: must be a list")
    return content


def _text(content: Tree, name: str, key: str) -> str:
    text = content.get(name)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{key}: must be a text")
    return text
