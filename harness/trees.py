"""Trees of plain values, and the same values by dotted key: ``{"head": {"dim": 3}}`` and ``{"head.dim": 3}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

#: A single value of a YAML or JSON file, such as that of a field of a cell.
Scalar: TypeAlias = str | int | float | bool | None
#: Anything that such a file holds.
Node: TypeAlias = "Scalar | Sequence[Node] | Tree"
#: A mapping of such a file, which may hold further ones.
Tree: TypeAlias = Mapping[str, Node]


def node_at(tree: Tree, path: str) -> Node:
    """Return what a tree holds at a dotted path; None where it holds nothing."""
    node: Node = tree
    for name in path.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def value_at(tree: Tree, path: str) -> Scalar:
    """Return the single value at a dotted path; None where there is none."""
    node = node_at(tree, path)
    return node if isinstance(node, Scalar) else None


def leaves(tree: Tree, prefix: str = "") -> dict[str, Node]:
    """Return the values of a tree by dotted key; none of them is a mapping."""
    values: dict[str, Node] = {}
    for key, value in tree.items():
        values |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


def scalars(tree: Tree) -> dict[str, Scalar]:
    """Return the single values of a tree by dotted key, without its lists."""
    return {key: value for key, value in leaves(tree).items() if isinstance(value, Scalar)}


def nested(values: Tree) -> Tree:
    """Return the tree of these values, whose keys may be dotted."""
    tree: dict[str, Node] = {}
    for key, value in values.items():
        first, _, rest = key.partition(".")
        branch = tree.get(first, {})
        tree[first] = {**branch, rest: value} if rest and isinstance(branch, Mapping) else value
    return {key: nested(value) if isinstance(value, Mapping) else value for key, value in tree.items()}
