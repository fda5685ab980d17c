"""The names of a Cell's fields in a declaration (``batch_size``, ``temperature``, ``loss``), and filters over them."""

from __future__ import annotations

import dataclasses

from harness import filters
from harness.catalog.losses import LOSSES
from harness.cell import OWN, Cell, Loss, paths, short_name
from harness.errors import UserError, nearest
from harness.filters import ALLOWED, ORDER, Filter
from harness.sweep.declare.limits import NAMES, check_range, type_of
from harness.trees import Node

#: The fields that no axis can vary: the file of a group sets more than its name, and a report names one data set.
FIXED = {
    "dataset.name": "one experiment a data set",
    "dataset.image_size": "one experiment an image size",
    "dataset.validation": "one experiment a split",
    "backbone.name": "one experiment a backbone; backbone=NAME sets its width and head with it",
}


def field_path(name: str) -> str:
    """Return the path of a field: ``batch_size``, ``temperature`` (loss.temperature), ``loss`` (loss.name).

    Raises:
        UserError: there is no such field, or the short name is ambiguous.
    """
    if name.removeprefix("loss.").startswith("own.") or name in own_parameters():
        parameter = name.removeprefix("loss.").removeprefix("own.")
        check_own(parameter)
        return OWN + parameter
    known = paths(Cell)
    for candidate in (name, f"{name}.name"):
        if candidate in known:
            return candidate
    ends = [path for path in known if path.rsplit(".", 1)[-1] == name]
    if len(ends) != 1:
        short = sorted({short_name(path) for path in known} | set(own_parameters()))
        what = f"several fields are called '{name}'" if ends else f"unknown field '{name}'{nearest(name, short)}"
        raise UserError(what, allowed=", ".join(ends or short))
    return ends[0]


def variable_path(name: str) -> str:
    """Return the path of a field that may differ between the cells of an experiment.

    Raises:
        UserError: there is no such field, or it may not.
    """
    path = field_path(name)
    if path in FIXED:
        raise UserError(f"'{name}' cannot be an axis", allowed=FIXED[path])
    return path


def own_parameters() -> list[str]:
    """Return the parameters that only losses of users have."""
    known = {item.name for item in dataclasses.fields(Loss)}
    return sorted({name for entry in LOSSES.values() if entry.file for name in entry.parameters} - known)


def check_own(name: str) -> None:
    """Raise a UserError if no loss of a user has this parameter."""
    known = own_parameters()
    if name not in known:
        what = f"no loss has a parameter '{name}'{nearest(name, known)}"
        raise UserError(what, allowed=", ".join(known) or "--plugin FILE brings own losses")


def read_filter(text: Node) -> Filter:
    """Return a filter over the fields of cells, such as ``loss=dcl batch_size<=64``.

    Raises:
        UserError: it is no filter, or it compares a field with what that cannot hold.
    """
    if not isinstance(text, str):
        raise UserError(f"{text!r} is no filter", allowed=ALLOWED)
    parsed = filters.parse(text, field_path)
    for condition in parsed.conditions:
        for value in condition.values:
            _check_compared(condition.path, condition.sign, value)
    return parsed


def _check_compared(path: str, sign: str, value: str) -> None:
    kind = type_of(path)
    if sign in ORDER and kind in (str, bool):
        raise UserError(f"{short_name(path)} has no order", allowed="= and !=")
    if path in NAMES:
        check_range(path, value)
    if kind is bool and value.lower() not in ("true", "false"):
        raise UserError(f"'{value}' is not of type bool", allowed="true, false")
    if kind in (int, float):
        try:
            float(value)
        except ValueError:
            raise UserError(f"'{value}' is not of type {kind.__name__}", allowed="a number") from None
