"""Trees of values, and the same values by dotted key: ``{"head": {"dim": 3}}`` and ``{"head.dim": 3}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a tree by dotted key."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of these values, whose keys may be dotted."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        first, _, rest = key.partition(".")
        if rest and isinstance(tree.get(first, {}), dict):
            tree[first] = {**tree.get(first, {}), rest: value}
        else:
            tree[first] = value
    return {key: nested(value) if isinstance(value, dict) else value for key, value in tree.items()}
