"""The kinds of parameters that losses and methods have, with their ranges and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


def filled(component: Mapping[str, Any], known: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return a loss or method as declared, with the defaults of the parameters that are not declared, and None for
    those that it does not have; parameters that only a user's own loss has stand in ``own``."""
    values = {name: value if name in known or name == "name" else None for name, value in component.items()}
    for name, parameter in known.items():
        if name not in component:
            declared = component["own"] or {}
            values["own"] = {**(values["own"] or {}), name: float(declared.get(name, parameter.default))}
        elif component[name] is None:
            values[name] = parameter.default
    return values
