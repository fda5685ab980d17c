"""From a declaration to cells: the product of the axes. Pure."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from harness.catalog import BACKBONES, LOSSES, METHODS, TRAINING_VERSION, VIEWS_VERSION, filled
from harness.cell import OWN, Cell, Loss, from_dict, get, paths, short_name
from harness.dataset_files import DatasetFiles
from harness.errors import UserError, nearest
from harness.manifest import Expected, Manifest
from harness.sweep.check import check_cell, check_evaluation, check_range, check_value, check_world
from harness.sweep.experiment import Declaration, leaves

#: Fields that no axis can vary: a group's file sets more than its name, and a report names one data set.
FIXED = {
    "dataset.name": "one experiment a data set",
    "dataset.image_size": "one experiment an image size",
    "dataset.validation": "one experiment a split",
    "backbone.name": "one experiment a backbone; backbone=NAME sets its width and head with it",
}


def axis_path(name: str) -> str:
    """The field that an axis varies: ``batch_size``, ``temperature`` (loss.temperature), ``loss`` (loss.name).

    Raises:
        KeyError: there is no such field, or the short name is ambiguous.
    """
    if name.removeprefix("loss.").startswith("own."):
        return OWN + name.removeprefix("loss.").removeprefix("own.")
    if name in own_parameters():
        return OWN + name
    known = paths(Cell)
    for candidate in (name, f"{name}.name"):
        if candidate in known:
            return candidate
    ends = [path for path in known if path.rsplit(".", 1)[-1] == name]
    if len(ends) != 1:
        raise KeyError(name)
    return ends[0]


def own_parameters() -> list[str]:
    """Parameters that only users' own losses have."""
    fields = {item.name for item in dataclasses.fields(Loss)}
    return sorted({name for entry in LOSSES.values() if entry.file for name in entry.parameters} - fields)


def grids(declaration: Declaration) -> list[dict[str, list[Any]]]:
    """Dotted fields and their values: of ``axes`` alone, or of each of ``grids`` added to ``axes``.

    Raises:
        UserError: an unknown axis, or a value that its field cannot take.
    """
    common = _axes(declaration, "axes", declaration.values["axes"])
    found = []
    for name, own in declaration.values["grids"].items():
        if not isinstance(own, Mapping):
            where = declaration.locator.where(f"grids.{name}")
            raise UserError("a grid is a mapping of axes", where=where, allowed="grids: {NAME: {AXIS: [VALUES]}}")
        axes = _axes(declaration, f"grids.{name}", own)
        found.append({**axes, **{path: values for path, values in common.items() if path not in axes}})
    return found or [common]


def _axes(declaration: Declaration, prefix: str, node: Mapping[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, values in leaves(node).items():
        where = declaration.locator.where(f"{prefix}.{name}")
        try:
            path = axis_path(name)
        except KeyError:
            short = sorted({short_name(path) for path in paths(Cell)} | set(own_parameters()))
            what = f"unknown axis '{name}'{nearest(name, short)}"
            raise UserError(what, where=where, allowed=", ".join(short)) from None
        if path.startswith(OWN):
            _check_own(path.removeprefix(OWN), where)
        if path in FIXED:
            raise UserError(f"'{name}' cannot be an axis", where=where, allowed=FIXED[path])
        if not isinstance(values, list) or not values:
            raise UserError("an axis is a list of values", where=where, allowed="such as [32, 64, 128]")
        found[path] = [check_value(path, value, where) for value in values]
        if len(set(found[path])) < len(values):
            raise UserError("a value is listed twice", where=where)
    return found


def _check_own(name: str, where: str) -> None:
    """Raises a UserError where no user's loss has such a parameter."""
    known = own_parameters()
    if name not in known:
        what = f"no loss has a parameter '{name}'{nearest(name, known)}"
        raise UserError(what, where=where, allowed=", ".join(known) or "--plugin FILE brings own losses")


def hidden(declaration: Declaration) -> list[str]:
    """What a group that the command line chose sets in vain, because an axis varies it."""
    declared = grids(declaration)
    return [
        f"{override} sets {path} to {value}, but an axis varies it: axes.{short_name(path)}=[{value}] takes it"
        for override, values in declaration.chosen.items()
        for path, value in values.items()
        if all(path in axes and value not in axes[path] for axes in declared)
    ]


def expand(declaration: Declaration, files: DatasetFiles) -> list[tuple[Cell, dict[str, Any]]]:
    """Every cell with its value on each axis, seeds innermost, all checked; a cell of two grids stands there once.

    Raises:
        UserError: a cell that cannot run.
    """
    where = declaration.locator.where
    settings = _settings(declaration, files)
    for path, value in leaves(settings).items():
        if path in paths(Cell) and value is not None:
            check_value(path, value, where(path.removesuffix(".name")))
    for name in settings["loss"]["own"]:
        _check_own(name, where(OWN + name))
    for group in ("evaluate", "cluster"):
        for name, value in declaration.values[group].items():
            if value is not None:
                check_range(f"{group}.{name}", value, where(f"{group}.{name}"))

    found: dict[str, Cell] = {}
    declared = grids(declaration)
    for grid in declared:
        found |= _product(grid, settings, declaration, files)
    every_axis = list(dict.fromkeys(path for grid in declared for path in grid))
    return [(cell, {path: get(cell, path) for path in every_axis}) for cell in found.values()]


def _product(
    grid: Mapping[str, list[Any]], settings: Mapping[str, Any], declaration: Declaration, files: DatasetFiles
) -> dict[str, Cell]:
    """The checked cells of one grid, by identity."""
    where = declaration.locator.where

    def place(path: str) -> str:
        for group in ("axes", "grids"):
            for name in leaves(declaration.values[group]):
                axis = name.partition(".")[2] if group == "grids" else name
                if axis_path(axis) == path:
                    return where(f"{group}.{name}")
        return where(path)

    found: dict[str, tuple[Cell, dict[str, Any]]] = {}
    for point in itertools.product(*grid.values()):
        values = dict(zip(grid, point, strict=True))
        cell = _cell(settings, values)
        check_cell(cell, files, place)
        check_world(cell, declaration.values["cluster"]["world_size"], where)
        check_evaluation(declaration.values["evaluate"], cell, files, where)
        if cell.cell_id in found:
            same = next(path for path in grid if found[cell.cell_id][1][path] != values[path])
            owner = cell.method.name if same.startswith("method.") else cell.loss.name
            what = f"{owner} has no {short_name(same)}: two points of the grid are one cell"
            raise UserError(what, where=place(same), allowed="one value, or grids: of those that have it")
        found[cell.cell_id] = (cell, values)
    return {cell_id: cell for cell_id, (cell, _) in found.items()}


def _settings(declaration: Declaration, files: DatasetFiles) -> dict[str, Any]:
    """The values of a Cell's fields, the data set's fingerprint included."""
    settings = declaration.settings
    return {**settings, "dataset": {**settings["dataset"], "fingerprint": files.fingerprint}}


def _cell(settings: Mapping[str, Any], values: Mapping[str, Any]) -> Cell:
    tree: dict[str, Any] = copy.deepcopy(dict(settings))
    for path, value in values.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node[parent] = node[parent] or {}  # a user's own parameters, where none was declared
            node = node[parent]
        node[leaf] = value
    loss, method = LOSSES[tree["loss"]["name"]], METHODS[tree["method"]["name"]]
    tree["loss"] = {**filled(tree["loss"], loss.parameters), "source": loss.source or None}
    tree["method"] = filled(tree["method"], method.parameters)
    tree["versions"] = {
        "loss": loss.version,
        "method": method.version,
        "backbone": BACKBONES[tree["backbone"]["name"]].version,
        "views": VIEWS_VERSION,
        "training": TRAINING_VERSION,
    }
    return from_dict(Cell, tree)


def manifest(
    declaration: Declaration, files: DatasetFiles, cells: Sequence[tuple[Cell, dict[str, Any]]], revision: str
) -> Manifest:
    """What the study will expect."""
    values = declaration.values
    axes: dict[str, list[Any]] = {path: [] for path in cells[0][1]}
    for _, point in cells:
        for path, value in point.items():
            axes[path] += [] if value in axes[path] else [value]
    return Manifest(
        experiment=declaration.name,
        scale=declaration.scale,
        title=values["title"] or declaration.name,
        question=values["question"],
        caveat=values["caveat"],
        comparable=values["comparable"],
        dataset=values["dataset"]["title"] or values["dataset"]["name"],
        axes=axes,
        cells=[Expected(cell.cell_id, point) for cell, point in cells],
        claims=declaration.claims,
        evaluation=values["evaluate"],
        settings=_settings(declaration, files),
        overrides=declaration.overrides,
        revision=revision,
    )
