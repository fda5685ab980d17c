"""From a declaration to cells: the product of the axes. Pure."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from harness.catalog import BACKBONES, LOSSES, METHODS, TRAINING_VERSION, VIEWS_VERSION
from harness.cell import Cell, from_dict, paths, short_name
from harness.dataset_files import DatasetFiles
from harness.errors import UserError, nearest
from harness.manifest import Expected, Manifest
from harness.sweep.check import check_cell, check_evaluation, check_range, check_value
from harness.sweep.experiment import Declaration

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
    known = paths(Cell)
    for candidate in (name, f"{name}.name"):
        if candidate in known:
            return candidate
    ends = [path for path in known if path.rsplit(".", 1)[-1] == name]
    if len(ends) != 1:
        raise KeyError(name)
    return ends[0]


def axes(declaration: Declaration) -> dict[str, list[Any]]:
    """Dotted fields and their values, in declared order.

    Raises:
        UserError: an unknown axis, or a value that its field cannot take.
    """
    found: dict[str, list[Any]] = {}
    for name, values in _leaves(declaration.values["axes"]).items():
        where = declaration.locator.where(f"axes.{name}")
        try:
            path = axis_path(name)
        except KeyError:
            short = sorted({short_name(path) for path in paths(Cell)})
            what = f"unknown axis '{name}'{nearest(name, short)}"
            raise UserError(what, where=where, allowed=", ".join(short)) from None
        if path in FIXED:
            raise UserError(f"'{name}' cannot be an axis", where=where, allowed=FIXED[path])
        if not isinstance(values, list) or not values:
            raise UserError("an axis is a list of values", where=where, allowed="such as [32, 64, 128]")
        found[path] = [check_value(path, value, where) for value in values]
        if len(set(found[path])) < len(values):
            raise UserError("a value is listed twice", where=where)
    return found


def _leaves(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def expand(declaration: Declaration, files: DatasetFiles) -> list[tuple[Cell, dict[str, Any]]]:
    """Every cell with its value on each axis, seeds innermost, all checked.

    Raises:
        UserError: a cell that cannot run.
    """
    grid = axes(declaration)
    where = declaration.locator.where
    settings = declaration.settings
    settings["dataset"] = {**settings["dataset"], "fingerprint": files.fingerprint}
    for path, value in _leaves(settings).items():
        if path in paths(Cell) and value is not None:
            check_value(path, value, where(path.removesuffix(".name")))

    def place(path: str) -> str:
        short = next((name for name in _leaves(declaration.values["axes"]) if axis_path(name) == path), None)
        return where(f"axes.{short}" if short else path)

    for group in ("evaluate", "cluster"):
        for name, value in declaration.values[group].items():
            if value is not None:
                check_range(f"{group}.{name}", value, where(f"{group}.{name}"))

    cells: dict[str, tuple[Cell, dict[str, Any]]] = {}
    for point in itertools.product(*grid.values()):
        values = dict(zip(grid, point, strict=True))
        cell = _cell(settings, values)
        check_cell(cell, files, place)
        check_evaluation(declaration.values["evaluate"], cell, files, where)
        if cell.cell_id in cells:
            same = next(path for path in grid if cells[cell.cell_id][1][path] != values[path])
            what = f"{cell.loss.name} has no {short_name(same)}: two points of the grid are one cell"
            raise UserError(what, where=place(same), allowed="one value, or losses that have it")
        cells[cell.cell_id] = (cell, values)
    return list(cells.values())


def _cell(settings: Mapping[str, Any], values: Mapping[str, Any]) -> Cell:
    tree: dict[str, Any] = copy.deepcopy(dict(settings))
    for path, value in values.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        node[leaf] = value
    loss = tree["loss"]
    known = LOSSES[loss["name"]].parameters
    for name in [name for name in loss if name != "name"]:
        if name not in known:
            loss[name] = None
        elif loss[name] is None:
            loss[name] = known[name].default
    tree["versions"] = {
        "loss": LOSSES[loss["name"]].version,
        "method": METHODS[tree["method"]["name"]],
        "backbone": BACKBONES[tree["backbone"]["name"]].version,
        "views": VIEWS_VERSION,
        "training": TRAINING_VERSION,
    }
    return from_dict(Cell, tree)


def manifest(
    declaration: Declaration, files: DatasetFiles, cells: Sequence[tuple[Cell, dict[str, Any]]], revision: str
) -> Manifest:
    """What the study will expect."""
    values, settings = declaration.values, declaration.settings
    return Manifest(
        experiment=declaration.name,
        scale=declaration.scale,
        title=values["title"] or declaration.name,
        question=values["question"],
        caveat=values["caveat"],
        comparable=values["comparable"],
        dataset=values["dataset"]["title"] or values["dataset"]["name"],
        axes=axes(declaration),
        cells=[Expected(cell.cell_id, point) for cell, point in cells],
        claims=declaration.claims,
        evaluation=values["evaluate"],
        settings={**settings, "dataset": {**settings["dataset"], "fingerprint": files.fingerprint}},
        overrides=declaration.overrides,
        revision=revision,
    )
