"""Whether the fields of a dataclass hold values of the types that they are declared with."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any


def check_types(item: object) -> None:
    """Check the fields of a dataclass, and of those in it; what lists and mappings hold is not looked at.

    Raises:
        TypeError: a field holds a value of another type than its own.
    """
    cls: Any = type(item)
    for name, allowed, nested in _allowed(cls):
        value = getattr(item, name)
        kind = type(value)
        if kind not in allowed and (kind is bool or not isinstance(value, allowed)):
            raise TypeError(f"{name} is {value!r}")
        if nested and value is not None:
            check_types(value)


@functools.cache
def _allowed(cls: type) -> list[tuple[str, tuple[type, ...], bool]]:
    """Return the types that each field of a dataclass may hold, and whether they are dataclasses, too; JSON has whole
    numbers also for floats."""
    if not is_dataclass(cls):
        return []
    hints = typing.get_type_hints(cls, localns={"Node": object})  # an alias of ``harness.trees``, which names itself
    allowed = {item.name: _plain(hints[item.name]) for item in fields(cls)}
    return [(name, kinds, any(map(is_dataclass, kinds))) for name, kinds in allowed.items()]


def _plain(hint: Any) -> tuple[type, ...]:
    """Return the types of values that fulfil a hint, without what they hold."""
    origin = typing.get_origin(hint)
    if hint is Any:
        return (object,)
    if hint is float:
        return (float, int)
    if origin is None:
        return (hint,)
    if origin in (typing.Union, types.UnionType):
        return tuple(kind for part in typing.get_args(hint) for kind in _plain(part))
    if issubclass(origin, Mapping):
        return (dict,)
    return (list, tuple) if issubclass(origin, Sequence) else (origin,)
