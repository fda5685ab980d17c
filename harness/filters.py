"""Filters that choose cells, as ``loss=dcl,infonce batch_size<=64 seed!=0`` in declarations and on the command line.

Conditions are separated by blanks and all of them hold; a comma separates alternatives of ``=`` (one of them) and
``!=`` (none of them).
"""

from __future__ import annotations

import numbers
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError

CONDITION = re.compile(r"([A-Za-z_][\w.]*)(<=|>=|!=|=|<|>)([^\s<>=!]+)")
ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
ALLOWED = "such as 'loss=dcl,infonce batch_size<=64 seed!=0'"


@dataclass(frozen=True)
class Condition:
    """One condition; ``path`` is a dotted field of a cell, or another name that the caller resolves (``state``)."""

    path: str
    sign: str
    values: tuple[str, ...]

    def holds(self, value: Any) -> bool:
        """Whether the value fulfils the condition; an absent value equals nothing and is in no order."""
        if self.sign in ORDER:
            return _is_number(value) and bool(ORDER[self.sign](value, float(self.values[0])))
        return any(_equal(value, wanted) for wanted in self.values) == (self.sign == "=")


@dataclass(frozen=True)
class Filter:
    """Conditions that must all hold; ``text``: the filter as it was written."""

    text: str
    conditions: tuple[Condition, ...]

    def matches(self, value_of: Callable[[str], Any]) -> bool:
        """Whether all conditions hold; ``value_of`` gives the value at a path."""
        return all(condition.holds(value_of(condition.path)) for condition in self.conditions)

    @property
    def paths(self) -> set[str]:
        """The dotted paths that the filter asks about."""
        return {condition.path for condition in self.conditions}


def is_filter(word: str) -> bool:
    """Whether a word of a command line is meant as a filter rather than as a name."""
    return bool(re.search(r"[<>=]", word))


def parse(text: str, resolve: Callable[[str], str]) -> Filter:
    """Read a filter; ``resolve`` turns a name into its path.

    Raises:
        UserError: it is no filter, or compares by size with something that is no number; and what ``resolve`` raises.
    """
    words = text.split()
    conditions = []
    for word in words:
        found = CONDITION.fullmatch(word)
        if not found:
            raise UserError(f"'{word}' is not a condition", allowed=ALLOWED)
        name, sign, right = found.groups()
        values = tuple(right.split(","))
        if sign in ORDER and not (len(values) == 1 and _number(values[0]) is not None):
            raise UserError(f"'{word}' compares with something that is no number", allowed=ALLOWED)
        conditions.append(Condition(resolve(name), sign, values))
    if not conditions:
        raise UserError("an empty filter", allowed=ALLOWED)
    return Filter(text, tuple(conditions))


def _equal(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted.lower() == str(value).lower()
    if _is_number(value):
        return bool(_number(wanted) == value)
    return value is not None and str(value) == wanted


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)  # those of numpy, too


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
