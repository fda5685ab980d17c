"""The declaration: one YAML file, composed by Hydra from typed groups, the overlay of its scale, and overrides.

An experiment has four kinds of keys at its top level: the fields of a Cell; the keys that make cells of them (axes,
zip, grids, when, derive, budget, exclude, include); the keys that describe the study (title, scales, claims); and the
settings of a run that are no part of its identity (evaluate, cluster, resources, failures, dataset.root).
docs/experiments.md explains each.

A scale is a named overlay inside the file. It becomes overrides that come before those of the command line.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.cell import Cell
from harness.errors import UserError, below, located, nearest
from harness.evaluation import Evaluation
from harness.manifest import Claim
from harness.store.sweeps.ledger import Policy
from harness.sweep.declare import cluster_profiles
from harness.sweep.declare.claims import read_claim
from harness.sweep.declare.overrides import Override, grammar, read
from harness.sweep.declare.schema import CONF, GROUPS, ClusterConfig, Experiment, ExperimentSchema
from harness.sweep.declare.source_map import Locator, key_lines
from harness.sweep.declare.translate_errors import expected_at, first_line, translated, unknown_key
from harness.trees import Node, Tree, leaves, nested

#: The mappings to which the command line may add keys without Hydra's ``+``.
OPEN = ("axes.", "grids.", "when.", "derive.", "claims.", "loss.own.", "cluster.sbatch.", "cluster.sbatch=")


@dataclass(frozen=True)
class Declaration:
    """A composed experiment at one scale; ``typed``: the overrides of the command line.

    ``chosen``: the values that each group of the command line sets.
    """

    name: str
    path: Path
    scale: str
    scales: list[str]
    experiment: Experiment
    claims: list[Claim]
    typed: list[Override]
    locator: Locator
    chosen: Mapping[str, Tree]

    @property
    def overrides(self) -> list[str]:
        """The overrides of the command line, as they were typed."""
        return [override.text for override in self.typed]

    @property
    def settings(self) -> Tree:
        """Return the values of a Cell's fields; the budget's epochs or steps overrule those that the file sets."""
        values, budget = asdict(self.experiment), self.budget
        settings = {item.name: values[item.name] for item in fields(Cell) if item.name in values}
        dataset = {key: value for key, value in settings["dataset"].items() if key not in ("root", "title")}
        return {**settings, "dataset": dataset, **({"steps": None} | budget if budget else {})}

    @property
    def budget(self) -> dict[str, int]:
        """Return the epochs or the steps that every cell may train, by the key; empty where no budget is declared."""
        return {key: value for key, value in vars(self.experiment.budget).items() if value is not None}

    @property
    def cluster(self) -> ClusterConfig:
        """The profile of the cluster; its scheduler is none for a sweep on this machine."""
        return self.experiment.cluster

    @property
    def evaluation(self) -> Evaluation:
        """The settings with which every cell is evaluated."""
        return Evaluation(**asdict(self.experiment.evaluate))

    @property
    def failures(self) -> Policy:
        """The policy for cells that fail."""
        return Policy.from_json(vars(self.experiment.failures))


def declare(path: Path, overrides: Sequence[str]) -> Declaration:
    """Compose the experiment file with its scale's overlay and the overrides of the command line.

    Raises:
        UserError: a key or value that is not allowed, with its place.
    """
    if path.name == "schema.yaml":
        raise UserError("schema is the name of what keys are checked against", where=str(path), allowed="another name")
    file = _loaded(path, [])
    scale, typed = _chosen_scale(file, read(overrides))
    rest = [override.text for override in typed]
    locator = Locator(path, scale, overrides)
    with located(locator.where):
        _check_shape({key: value for key, value in file.items() if key != "defaults"}, ExperimentSchema)
        scales, defaults = file.get("scales") or {}, file.get("defaults") or []
        assert isinstance(scales, Mapping)
        assert isinstance(defaults, list)
        overlay = _overlay(scales, scale)
        chosen = {**_group_values(path, rest), **cluster_profiles.values_of(rest)}
        composed = _in_order(overlay, chosen, rest, defaults)
        experiment = _compose(path, composed)
        claims = [_claim(index, item) for index, item in enumerate(experiment.claims)]
    return Declaration(path.stem, path, scale, list(scales), experiment, claims, typed, locator, chosen)


def _claim(index: int, item: Any) -> Claim:
    with below(f"claims[{index}]"):
        return read_claim(item)


def _overlay(scales: Tree, scale: str) -> Tree:
    """Return the values that the chosen scale sets, by key.

    Raises:
        UserError: there is no such scale, or it sets what is not allowed.
    """
    overlays: dict[str, Tree] = {}
    for name, values in scales.items():
        overlay = values or {}
        if not isinstance(overlay, Mapping):
            allowed = "scales: {NAME: {KEY: VALUE}}"
            raise UserError("scales are named overlays", key=f"scales.{name}", allowed=allowed)
        overlays[name] = overlay
    if scale not in overlays:
        allowed = ", ".join(overlays) or "an experiment needs at least one scale below scales:"
        raise UserError(f"no scale '{scale}'{nearest(scale, overlays)}", key="scale", allowed=allowed)
    overlay = overlays[scale]
    _check_shape(nested({key: value for key, value in overlay.items() if not _is_choice(key, value)}), ExperimentSchema)
    return overlay


def _is_choice(key: str, value: Node) -> bool:
    """Whether a key of an overlay chooses a group by its name, such as ``backbone: resnet18``."""
    return key in GROUPS and isinstance(value, str)


def _in_order(overlay: Tree, chosen: Mapping[str, Tree], rest: Sequence[str], defaults: Sequence[Node]) -> list[str]:
    """Return Hydra's overrides, later ones of which win: the scale's, those of chosen groups, the command line's."""
    of_scale = _as_overrides(overlay, taken={override.partition("=")[0].lstrip("+") for override in rest})
    of_groups = [f"++{key}={grammar(value)}" for settings in chosen.values() for key, value in settings.items()]
    typed = [
        f"++{override}" if override.startswith(OPEN) else override
        for override in map(cluster_profiles.with_known_group, rest)
    ]
    return _with_absent_groups([*of_scale, *of_groups, *typed], defaults)


def stand_ins(path: Path) -> list[Path]:
    """Return the files beside an experiment that hide a group's file of harness, such as ``dataset/digits.yaml``."""
    shipped = (file.relative_to(CONF) for group in GROUPS for file in sorted((CONF / group).glob("*.yaml")))
    return [own for name in shipped if (own := path.parent / name).is_file()]


def _group_values(path: Path, overrides: Sequence[str]) -> dict[str, Tree]:
    """Return the values that the groups of the command line set, by override and dotted key.

    Hydra composes groups before values, so that a value of the file or of its scale would overrule a group that the
    command line names. Therefore these values are set again, after those of the scale.
    """
    values: dict[str, Tree] = {}
    for override in overrides:
        group, _, name = override.lstrip("+").partition("=")
        if group not in GROUPS:
            continue
        own = path.parent / group / f"{name}.yaml"
        file = own if own.is_file() else CONF / group / f"{name}.yaml"
        if file.is_file():
            header = file.read_text(encoding="utf-8").partition("\n")[0]
            prefix = "" if "@package _global_" in header else f"{group}."
            values[override] = leaves(_loaded(file, []), prefix)
    return values


def _with_absent_groups(overrides: Sequence[str], defaults: Sequence[Node]) -> list[str]:
    """Return the overrides with Hydra's ``+`` for groups that the defaults of the file do not name."""
    present = {key.split()[-1] for item in defaults if isinstance(item, Mapping) for key in item}
    absent = tuple(f"{group}=" for group in GROUPS if group not in present)
    return [f"+{override}" if override.startswith(absent) else override for override in overrides]


def _chosen_scale(file: Tree, typed: Sequence[Override]) -> tuple[str, list[Override]]:
    """Return the scale, named by an override or by the file, and the other overrides."""
    chosen = [str(override.value) for override in typed if override.key == "scale"]
    scale = chosen[-1] if chosen else str(file.get("scale", ""))
    return scale, [override for override in typed if override.key != "scale"]


def _as_overrides(overlay: Tree, taken: set[str]) -> list[str]:
    """Return the overlay of a scale as overrides, without the groups that the command line chooses."""
    overrides = []
    for key, value in overlay.items():
        if _is_choice(key, value):
            overrides += [] if key in taken else [f"{key}={value}"]
        elif isinstance(value, Mapping):
            overrides += _as_overrides({f"{key}.{inner}": item for inner, item in value.items()}, taken)
        else:
            overrides.append(f"++{key}={grammar(value)}")
    return overrides


#: The errors of YAML and OmegaConf about values that are not plain (``!!int word``), and about files that do not exist.
_MALFORMED = (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, RecursionError, OSError)


def _loaded(path: Path, above: Sequence[Path]) -> Tree:
    """Return the plain values of an experiment file; the files that its defaults include are checked in the same way.

    Raises:
        UserError: one of them is not plain YAML, or includes itself.
    """
    lines = key_lines(path)
    try:
        file = _plain(OmegaConf.load(path))
    except _MALFORMED as error:
        raise UserError(f"not plain values: {first_line(error)}", where=str(path), allowed="plain YAML") from None
    defaults = file.get("defaults", [])
    where = f"{path}:{lines.get('defaults', 1)}: defaults"
    if not isinstance(defaults, list) or not all(isinstance(item, str | dict) and item for item in defaults):
        example = "defaults: [schema, dataset: digits, ..., _self_]"
        raise UserError("defaults are a list of groups", where=where, allowed=example)
    for item in defaults:
        name = "/".join(map(str, next(iter(item.items())))) if isinstance(item, Mapping) else str(item)
        other = path.parent / f"{name}.yaml"
        if name in ("schema", "_self_") or not other.exists():
            continue
        if other in (path, *above):
            what = f"the defaults of {path.name} bring in {other.name} again"
            raise UserError(what, where=where, allowed="no circle")
        _loaded(other, (path, *above))
    return file


def _check_shape(values: Tree, schema: type[Any], prefix: str = "") -> None:
    """Refuse an unknown key, and a list or mapping where something else belongs."""
    hints = typing.get_type_hints(schema)
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in hints:
            raise unknown_key(key)
        hint = hints[name]
        kind = Mapping if is_dataclass(hint) else {list: list, dict: Mapping}.get(typing.get_origin(hint))
        if kind and not isinstance(value, kind):
            what = f"a {'list' if kind is list else 'mapping of keys'} belongs here"
            raise UserError(what, key=key, allowed=expected_at(key, hint))
        if kind is None and isinstance(value, Mapping | list):
            raise UserError("one value belongs here", key=key, allowed=expected_at(key, hint))
        if is_dataclass(hint) and isinstance(value, Mapping):
            _check_shape(value, typing.cast("type[Any]", hint), f"{key}.")


class _SearchPath(SearchPathPlugin):
    """The order of Hydra's search: the schema, also where the folder has a ``schema.yaml``; the folder; the groups."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        # Hydra's own source of schemas has the same provider; of another, it would warn of each schema.
        search_path.prepend(provider="schema", path="structured://", anchor="main")
        search_path.append(provider="harness", path=f"file://{CONF}")


@cache
def _register() -> None:
    """Tell Hydra of the schema and of where the groups lie, once in a process: the schema takes a while."""
    ConfigStore.instance().store(name="schema", node=ExperimentSchema)
    Plugins.instance().register(_SearchPath)


def _compose(path: Path, overrides: list[str]) -> Experiment:
    _register()
    try:
        with initialize_config_dir(str(path.parent.resolve()), version_base="1.3"):
            config = compose(path.stem, overrides=overrides)
    except (HydraException, *_MALFORMED) as error:
        raise translated(error) from None
    if OmegaConf.get_type(config) is not ExperimentSchema:
        raise UserError("the defaults lack the typed schema", key="defaults", allowed="defaults: [schema, ...]")
    _refuse_unknown(_plain(config), ExperimentSchema)
    return typing.cast("Experiment", OmegaConf.to_object(config))


def _refuse_unknown(values: Tree, schema: type[Any], prefix: str = "") -> None:
    """Refuse keys that Hydra's ``+`` or a scale's overlay has added to a typed node; nothing would ever read them."""
    hints = typing.get_type_hints(schema)
    for name, value in values.items():
        if name not in hints:
            raise unknown_key(f"{prefix}{name}")
        if is_dataclass(hints[name]) and isinstance(value, Mapping):
            _refuse_unknown(value, typing.cast("type[Any]", hints[name]), f"{prefix}{name}.")


def _plain(config: Any) -> Tree:
    """Return the plain values of a configuration: OmegaConf reads no others from a file."""
    try:
        return typing.cast("Tree", OmegaConf.to_container(config, resolve=False))
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from None
