"""The kinds of parameters that losses and methods have, with their ranges and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

from harness.cell import Component, from_dict

C = TypeVar("C", bound=Component)

INFINITY = float("inf")


@dataclass(frozen=True)
class Range:
    """The numbers between ``low`` and ``high``, both excluded unless ``closed``, and the ``default``."""

    low: float
    high: float
    default: float
    closed: bool = False

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and value < INFINITY if self.closed else self.low < value < self.high

    def __str__(self) -> str:
        less = "<=" if self.closed else "<"
        return f"{self.low:g} {less} value" + ("" if self.high == INFINITY else f" {less} {self.high:g}")


@dataclass(frozen=True)
class Flag:
    """True or false, and the ``default``."""

    default: bool

    def __contains__(self, value: object) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true, false"


@dataclass(frozen=True)
class Count:
    """A whole number of at least ``low``."""

    low: int
    default: int

    def __contains__(self, value: float) -> bool:
        return value >= self.low and int(value) == value

    def __str__(self) -> str:
        return f"{self.low} <= value"


Parameter = Range | Flag | Count


def filled(component: C, known: Mapping[str, Parameter]) -> C:
    """Return a loss or method as declared, with the defaults of the parameters that are not declared, and None for
    those that it does not have; parameters that only a user's own loss has stand in ``own``."""
    declared = {item.name: getattr(component, item.name) for item in fields(component)}
    values = {name: value if name in known or name == "name" else None for name, value in declared.items()}
    for name, parameter in known.items():
        if name not in declared:
            own = declared["own"] or {}
            values["own"] = {**(values["own"] or {}), name: float(own.get(name, parameter.default))}
        elif declared[name] is None:
            values[name] = parameter.default
    return from_dict(type(component), values)
