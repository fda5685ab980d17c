"""Trees of values and dotted keys."""

from __future__ import annotations

from harness.trees import leaves, nested

TREE = {"head": {"dim": 3, "norm": {"kind": "batch"}}, "seed": [0, 1], "title": ""}
DOTTED = {"head.dim": 3, "head.norm.kind": "batch", "seed": [0, 1], "title": ""}


def test_a_tree_and_its_dotted_keys_say_the_same() -> None:
    assert leaves(TREE) == DOTTED
    assert nested(DOTTED) == TREE
    assert nested({"head": {"dim": 3}, "head.norm": {"kind": "batch"}, "seed": [0, 1], "title": ""}) == TREE
