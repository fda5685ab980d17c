"""The builder of cells; parts that thousands of cells share are made once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.catalog import TRAINING_VERSION, VIEWS_VERSION
from harness.catalog.backbones import BACKBONES
from harness.catalog.losses import LOSSES
from harness.catalog.methods import METHODS
from harness.catalog.parameters import filled
from harness.cell import Backbone, Cell, Component, Dataset, Head, Loss, Method, Optimizer, Views, from_dict
from harness.sweep.expand.axes import Point
from harness.sweep.expand.derived_fields import READ, Derived, TrainingLength
from harness.trees import Scalar, Tree, nested

COMPONENTS: dict[str, type[Component]] = {
    cls.__name__.lower(): cls for cls in (Method, Loss, Dataset, Views, Backbone, Head, Optimizer)
}


class Builder:
    """Builds the cell of a point.

    Args:
        declared: the values of the fields that do not vary, by their paths.
        rules: the fields that are derived.
        train: how many images there are to train on.
    """

    def __init__(self, declared: Mapping[str, Scalar], rules: Sequence[Derived], train: int) -> None:
        self._declared, self._rules, self._train = declared, rules, train
        self._parts: dict[tuple[str, tuple[str, ...], tuple[Scalar, ...]], Component] = {}
        self._followed: dict[tuple[Scalar, ...], Point] = {}
        self._versions: dict[tuple[str, str], dict[str, int]] = {}
        self._layouts: dict[tuple[str, ...], dict[str, list[str]]] = {}
        common = {path: value for path, value in declared.items() if "." not in path}
        self._common: dict[str, Any] = common | {name: self._part(name, (), ()) for name in COMPONENTS}

    def cell(self, point: Point) -> Cell:
        """Return the cell at a point of the grid; fields that follow from others are computed for it."""
        values = {**point, **self._following(point)}
        fields = dict(self._common)
        for name, below in self._layout(tuple(values)).items():
            if name in COMPONENTS:
                fields[name] = self._part(name, tuple(below), tuple([values[path] for path in below]))
            else:
                fields[name] = values[name]
        return Cell(**fields, versions=self._versions_of(fields["loss"].name, fields["method"].name))

    def _following(self, point: Point) -> Point:
        """Return the epochs that follow from a number of steps, and the derived fields."""
        key = tuple([point.get(name, self._declared[name]) for name in READ])
        if key not in self._followed:
            batch_size, epochs, steps = (value if isinstance(value, int) else 0 for value in key)  # steps may be None
            trained = steps / max(1, self._train // batch_size) if steps else epochs
            length = TrainingLength(batch_size, trained)
            self._followed[key] = {"epochs": math.ceil(trained)} if steps else {}
            self._followed[key] |= {rule.path: rule.value(length) for rule in self._rules}
        return self._followed[key]

    def _layout(self, paths: tuple[str, ...]) -> dict[str, list[str]]:
        """Group the paths by the field of Cell that they belong to."""
        if paths not in self._layouts:
            layout: dict[str, list[str]] = {}
            for path in paths:
                layout.setdefault(path.partition(".")[0], []).append(path)
            self._layouts[paths] = layout
        return self._layouts[paths]

    def _part(self, name: str, paths: tuple[str, ...], values: tuple[Scalar, ...]) -> Component:
        """Return the component with these values, and the declared ones of its other fields."""
        key = (name, paths, values)
        if key not in self._parts:
            by_path = {**self._declared, **dict(zip(paths, values, strict=True))}
            prefix = f"{name}."
            fields = {path.removeprefix(prefix): value for path, value in by_path.items() if path.startswith(prefix)}
            self._parts[key] = _component(name, nested(fields))
        return self._parts[key]

    def _versions_of(self, loss: str, method: str) -> dict[str, int]:
        if (loss, method) not in self._versions:
            self._versions[loss, method] = {
                "loss": LOSSES[loss].version,
                "method": METHODS[method].version,
                "backbone": BACKBONES[str(self._declared["backbone.name"])].version,
                "views": VIEWS_VERSION,
                "training": TRAINING_VERSION,
            }
        return self._versions[loss, method]


def _component(name: str, tree: Tree) -> Component:
    """Return the component; parameters that are left open get their defaults, parameters that it does not have None."""
    component = from_dict(COMPONENTS[name], tree)
    if isinstance(component, Loss):
        entry = LOSSES[component.name]
        return replace(filled(component, entry.parameters), source=entry.source or None)
    if isinstance(component, Method):
        return filled(component, METHODS[component.name].parameters)
    return component
