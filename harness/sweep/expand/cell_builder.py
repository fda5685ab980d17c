"""The builder of cells; parts that thousands of cells share are made once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.catalog import TRAINING_VERSION, VIEWS_VERSION
from harness.catalog.backbones import BACKBONES
from harness.catalog.losses import LOSSES
from harness.catalog.methods import METHODS
from harness.catalog.parameters import filled
from harness.cell import OWN, Backbone, Cell, Component, Dataset, Head, Loss, Method, Optimizer, Views, from_dict
from harness.sweep.expand.axes import Point
from harness.sweep.expand.derived_fields import Derived, TrainingLength

COMPONENTS: dict[str, type[Component]] = {
    cls.__name__.lower(): cls for cls in (Method, Loss, Dataset, Views, Backbone, Head, Optimizer)
}


class Builder:
    """Builds the cell of a point.

    Args:
        settings: the fields that do not vary.
        rules: the fields that are derived.
        train: how many images there are to train on.
    """

    def __init__(self, settings: Mapping[str, Any], rules: Sequence[Derived], train: int) -> None:
        self._settings, self._rules, self._train = settings, rules, train
        self._parts: dict[tuple[Any, ...], Component] = {}
        self._followed: dict[tuple[Any, ...], Point] = {}
        self._versions: dict[tuple[str, str], dict[str, int]] = {}
        self._layouts: dict[tuple[str, ...], dict[str, list[str]]] = {}
        self._declared = {**settings, **{name: self._part(name, (), ()) for name in COMPONENTS}}

    def cell(self, point: Point) -> Cell:
        values = {**point, **self._following(point)}
        fields = dict(self._declared)
        for name, below in self._layout(tuple(values)).items():
            if name in COMPONENTS:
                fields[name] = self._part(name, tuple(below), tuple([values[path] for path in below]))
            else:
                fields[name] = values[name]
        return Cell(**fields, versions=self._versions_of(fields["loss"].name, fields["method"].name))

    def _following(self, point: Point) -> Point:
        """Return the epochs that follow from a number of steps, and the derived fields."""
        read = ("batch_size", "epochs", "steps")
        key = tuple([point.get(name, self._settings[name]) for name in read])
        if key not in self._followed:
            batch_size, epochs, steps = key
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

    def _part(self, name: str, paths: tuple[str, ...], values: tuple[Any, ...]) -> Component:
        key = (name, paths, values)
        if key not in self._parts:
            tree = dict(self._settings[name])
            for path, value in zip(paths, values, strict=True):
                if path.startswith(OWN):
                    tree["own"] = {**tree["own"], path.removeprefix(OWN): value}
                else:
                    tree[path.partition(".")[2]] = value
            self._parts[key] = _component(name, tree)
        return self._parts[key]

    def _versions_of(self, loss: str, method: str) -> dict[str, int]:
        if (loss, method) not in self._versions:
            self._versions[loss, method] = {
                "loss": LOSSES[loss].version,
                "method": METHODS[method].version,
                "backbone": BACKBONES[self._settings["backbone"]["name"]].version,
                "views": VIEWS_VERSION,
                "training": TRAINING_VERSION,
            }
        return self._versions[loss, method]


def _component(name: str, tree: Mapping[str, Any]) -> Component:
    """Return the component; parameters that are left open get their defaults, parameters that it does not have None."""
    if name == "loss":
        loss = LOSSES[tree["name"]]
        tree = {**filled(tree, loss.parameters), "source": loss.source or None}
    elif name == "method":
        tree = filled(tree, METHODS[tree["name"]].parameters)
    return from_dict(COMPONENTS[name], tree)
