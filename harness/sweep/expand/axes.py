"""The grids of an experiment: axes, axes that vary together, and axes that exist only under a condition.

A grid is a row of factors: an axis, or the axes of a ``zip``. Its points are the product of their values, where a
factor whose condition does not hold is left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from harness.catalog.losses import LOSSES
from harness.catalog.methods import METHODS
from harness.cell import OWN, short_name
from harness.errors import UserError, below
from harness.filters import Filter
from harness.sweep.declare.compose import Declaration
from harness.sweep.declare.fields import read_filter, variable_path
from harness.sweep.declare.limits import check_value
from harness.trees import Node, Scalar, Tree, leaves

#: The limit on the points of all grids; a plan cannot hold more.
MOST_POINTS = 1_000_000

#: The value of each varying field, by its path.
Point = dict[str, Scalar]


@dataclass(frozen=True)
class Factor:
    """An axis, or the axes of a ``zip``.

    ``rows``: the values that are crossed with those of other factors; ``keys``: the key that declares each field;
    ``only``: the condition under which the factor exists.
    """

    rows: tuple[Point, ...]
    keys: Mapping[str, str]
    only: Filter | None = None

    def extended(self, points: Iterable[Point], declared: Mapping[str, Scalar]) -> Iterator[Point]:
        """Yield every point with every row of this factor, or unchanged if the condition does not hold for it."""
        rows, only = self.rows, self.only
        for point in points:
            if only and not only.matches(lambda path, at=point: at.get(path, declared.get(path))):  # type: ignore[misc]
                yield point
            else:
                for row in rows:
                    yield {**point, **row}


@dataclass(frozen=True)
class Grid:
    """The product of some factors; ``name`` is empty if the experiment has only one grid."""

    name: str
    factors: tuple[Factor, ...]

    @property
    def keys(self) -> dict[str, str]:
        """Return the fields that vary in this grid, each with the key that declares it."""
        return {path: key for factor in self.factors for path, key in factor.keys.items()}

    def values(self, path: str) -> list[Scalar]:
        """Return the different values of a field, in declared order."""
        return list(dict.fromkeys(row[path] for factor in self.factors for row in factor.rows if path in row))

    def points(self, declared: Mapping[str, Scalar]) -> Iterator[Point]:
        """Yield the points, the last factor varying fastest; ``declared``: values of fixed fields, for conditions."""
        points: Iterable[Point] = [{}]
        for factor in self.factors:
            points = factor.extended(points, declared)
        return iter(points)

    def count(self, declared: Mapping[str, Scalar], most: int) -> int:
        """Return the number of points; if conditions leave some out, it is counted only up to ``most``."""
        bound = math.prod(len(factor.rows) for factor in self.factors)
        if bound <= most or not any(factor.only for factor in self.factors):
            return bound
        return sum(1 for _ in itertools.islice(self.points(declared), most))


def grids(declaration: Declaration) -> list[Grid]:
    """Return the grid of ``axes`` and ``zip``, or each of ``grids`` with their axes added.

    Raises:
        UserError: an unknown axis, a value that its field cannot take, or conditions that depend on each other.
    """
    experiment = declaration.experiment
    common = _factors("axes", "zip", experiment.axes, experiment.zip)
    declared = []
    for name, node in experiment.grids.items():
        key = f"grids.{name}"
        if not isinstance(node, Mapping):
            raise UserError("a grid is a mapping of axes", key=key, allowed="grids: {NAME: {AXIS: [VALUES]}}")
        axes = {axis: values for axis, values in node.items() if axis != "zip"}
        factors = _factors(key, f"{key}.zip", axes, node.get("zip", []))
        declared.append(Grid(str(name), (*factors, *_kept(common, factors))))
    declared = declared or [Grid("", tuple(common))]
    conditions = _conditions(declaration, declared)
    return [replace(grid, factors=_in_order(grid.factors, conditions)) for grid in declared]


def _factors(axes_key: str, zip_key: str, axes: Tree, zips: Node) -> list[Factor]:
    """Return the factors; axes that vary together come first, so that the seeds stay last."""
    groups = _groups(zip_key, zips)
    factors = [_factor(f"{zip_key}[{index}]", group) for index, group in enumerate(groups)]
    factors += [_factor(axes_key, {name: values}) for name, values in leaves(axes).items()]
    seen: dict[str, str] = {}
    for path, key in (item for factor in factors for item in factor.keys.items()):
        if path in seen:
            what = f"{short_name(path)} varies twice, here and as {seen[path]}"
            raise UserError(what, key=key, allowed="one of them")
        seen[path] = key
    return factors


def _groups(key: str, zips: Node) -> list[Tree]:
    """Return the groups of axes of a ``zip``."""
    example = "zip: [{batch_size: [32, 512], lr: [0.1, 0.3]}]"
    if not isinstance(zips, list):
        raise UserError("zip is a list of groups of axes", key=key, allowed=example)
    groups: list[Tree] = []
    for index, node in enumerate(zips):
        group = leaves(node) if isinstance(node, Mapping) else {}
        if len(group) < 2:
            what = "a group of a zip has two axes or more"
            raise UserError(what, key=f"{key}[{index}]", allowed=example)
        groups.append(group)
    return groups


def _factor(key: str, group: Tree) -> Factor:
    """Return the factor of the axes of ``group``, which vary together."""
    columns: dict[str, list[Scalar]] = {}
    keys: dict[str, str] = {}
    for name, node in group.items():
        with below(f"{key}.{name}"):
            path, values = _column(name, node)
        if path in columns:
            raise UserError(f"{short_name(path)} stands twice in one zip", key=f"{key}.{name}", allowed="one of them")
        columns[path], keys[path] = values, f"{key}.{name}"
        first = next(iter(columns))
        if len(values) != len(columns[first]):
            what = f"{short_name(first)} has {len(columns[first])} values and {short_name(path)} {len(values)}"
            raise UserError(f"axes of a zip vary together: {what}", key=keys[path], allowed="lists of one length")
    rows = list(zip(*columns.values(), strict=True))
    if len(set(rows)) < len(rows):
        what = "a value is listed twice" if len(group) == 1 else "a row of a zip is listed twice"
        raise UserError(what, key=list(keys.values())[-1])
    return Factor(tuple(dict(zip(columns, row, strict=True)) for row in rows), keys)


def _column(name: str, node: Node) -> tuple[str, list[Scalar]]:
    """Return the path of an axis and its values."""
    path = variable_path(name)
    if path == "seed" and isinstance(node, int) and not isinstance(node, bool):
        if not 1 <= node <= MOST_POINTS:
            raise UserError(f"{node} seeds are out of range", allowed=f"1 <= value <= {MOST_POINTS}")
        return path, list(range(node))
    if not isinstance(node, list) or not node:
        example = "such as [0, 1, 2], or how many" if path == "seed" else "such as [32, 64, 128]"
        raise UserError("an axis is a list of values", allowed=example)
    return path, [check_value(path, value) for value in node]


def _kept(common: Iterable[Factor], factors: Iterable[Factor]) -> list[Factor]:
    """Return the common factors that a grid does not replace by its own."""
    replaced = {path: key for factor in factors for path, key in factor.keys.items()}
    kept = []
    for factor in common:
        again = [path for path in factor.keys if path in replaced]
        if again and len(factor.keys) > 1:
            what = f"{short_name(again[0])} varies twice, here and as {factor.keys[again[0]]}"
            raise UserError(what, key=replaced[again[0]], allowed="one of them")
        kept += [] if again else [factor]
    return kept


def _conditions(declaration: Declaration, grids: Iterable[Grid]) -> dict[str, Filter]:
    """Return the conditions of ``when`` by the path of their axis."""
    derived = derived_paths(declaration)
    conditions = {}
    for name, text in leaves(declaration.experiment.when).items():
        with below(f"when.{name}"):
            path, only = variable_path(name), read_filter(text)
            _check_condition(name, path, grids)
            if early := only.paths & derived:
                what = f"{short_name(early.pop())} is derived, which comes after conditions"
                raise UserError(what, allowed="fields that are declared")
        conditions[path] = only
    return conditions


def _check_condition(name: str, path: str, grids: Iterable[Grid]) -> None:
    factors = [factor for grid in grids for factor in grid.factors if path in factor.keys]
    if not factors:
        varying = dict.fromkeys(short_name(path) for grid in grids for path in grid.keys)
        raise UserError(f"'{name}' is no axis", allowed=", ".join(varying) or "an axis; there is none")
    if any(len(factor.keys) > 1 for factor in factors):
        what = f"{name} varies together with others and cannot have a condition of its own"
        raise UserError(what, allowed="an axis that stands alone, or grids:")


def derived_paths(declaration: Declaration) -> set[str]:
    """Return the paths of the fields of ``derive``."""
    paths = set()
    for name in declaration.experiment.derive:
        with below(f"derive.{name}"):
            paths.add(variable_path(str(name)))
    return paths


def _in_order(factors: Iterable[Factor], conditions: Mapping[str, Filter]) -> tuple[Factor, ...]:
    """Return the factors in declared order, but each one after the factors that its condition reads."""
    waiting = [replace(factor, only=conditions.get(next(iter(factor.keys)))) for factor in factors]
    ordered: list[Factor] = []
    while waiting:
        open_paths = {path for factor in waiting for path in factor.keys}
        ready = [factor for factor in waiting if not (factor.only and factor.only.paths & open_paths)]
        if not ready:
            names = [short_name(path) for factor in waiting for path in factor.keys if factor.only]
            what = f"the conditions of {', '.join(names)} depend on each other" if names[1:] else "it depends on itself"
            raise UserError(what, key=f"when.{names[0]}", allowed="conditions on other axes, without a circle")
        ordered.append(ready[0])
        waiting = [factor for factor in waiting if factor is not ready[0]]
    return tuple(ordered)


def included(declaration: Declaration, grids: Iterable[Grid], declared: Mapping[str, Scalar]) -> list[Grid]:
    """Return a grid of one point for each cell of ``include``, which may leave out an axis of one value.

    Raises:
        UserError: an unknown field, a value that it cannot take, or an axis of several values that is not named.
    """
    axes = {path: factor.only for grid in grids for factor in grid.factors for path in factor.keys}
    values = {
        path: list(dict.fromkeys(value for grid in grids for value in grid.values(path) or [declared.get(path)]))
        for path in axes
    }
    singles = []
    for index, node in enumerate(declaration.experiment.include):
        key = f"include[{index}]"
        if not isinstance(node, Mapping) or not node:
            example = "include: [{loss: dcl, batch_size: 1024, seed: 0}]"
            raise UserError("an included cell is a mapping of fields", key=key, allowed=example)
        point, keys = _single(key, leaves(node))
        for path, only in axes.items():
            if path in point or not _exists(path, only, {**declared, **point}):
                continue
            if len(values[path]) > 1:
                what = f"{short_name(path)} has several values and is not named"
                raise UserError(what, key=key, allowed=", ".join(map(str, values[path][:20])))
            (point[path],), keys[path] = values[path], key
        singles.append(Grid(key, (Factor((point,), keys),)))
    return singles


def _single(key: str, node: Tree) -> tuple[Point, dict[str, str]]:
    """Return the point that an included cell names, and the key of each of its fields."""
    point: Point = {}
    keys: dict[str, str] = {}
    for name, value in node.items():
        with below(f"{key}.{name}"):
            path = variable_path(name)
            point[path], keys[path] = check_value(path, value), f"{key}.{name}"
    return point, keys


def _exists(path: str, only: Filter | None, values: Mapping[str, Scalar]) -> bool:
    """Whether a cell with these values has the field: its condition holds, and its loss or method has the parameter."""
    if only and not only.matches(values.get):
        return False
    group, _, name = path.removeprefix(OWN).rpartition(".")
    if path.startswith("loss.") and name != "name":
        return name in LOSSES[str(values["loss.name"])].parameters
    return group != "method" or name == "name" or name in METHODS[str(values["method.name"])].parameters
