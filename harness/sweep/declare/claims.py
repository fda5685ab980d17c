"""The claims of an experiment file. What each measure needs is checked in ``harness.study.claims.validate``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from harness.errors import UserError, below, nearest
from harness.manifest import Claim
from harness.sweep.declare.fields import field_path, read_filter
from harness.sweep.declare.limits import type_of

NAMES = [item.name for item in dataclasses.fields(Claim)]
REQUIRED = ("name", "says", "source", "measure", "arms")
LISTS = ("arms", "published")


def read_claim(item: Any) -> Claim:
    """Return the claim, after its keys, its values and its filters were checked.

    Raises:
        UserError: a key or value that is not allowed.
    """
    if not isinstance(item, Mapping):
        raise UserError("a claim is a mapping", allowed=", ".join(NAMES))
    for key in item:
        if key not in NAMES:
            what = f"unknown key '{key}'{nearest(str(key), NAMES)}"
            raise UserError(what, key=str(key), allowed=", ".join(NAMES))
    if missing := [name for name in REQUIRED if name not in item]:
        raise UserError(f"a claim needs {', '.join(missing)}", allowed=", ".join(NAMES))
    claim = Claim(**{key: _value(key, value) for key, value in item.items()})
    for key, text in [("arms", arm) for arm in claim.arms] + [("at", claim.at), ("comparable", claim.comparable)]:
        if text or key == "arms":
            with below(key):
                read_filter(text)
    if claim.over:
        with below("over"):
            _check_axis(claim)
    return claim


def _check_axis(claim: Claim) -> None:
    """Refuse an axis without an order of numbers; a seed is a name, not a number."""
    path = field_path(claim.over)
    if path == "seed" or type_of(path) not in (int, float):
        what = f"{claim.name}: '{claim.over}' is no axis of numbers along which accuracy could be kept"
        raise UserError(what, allowed="an axis of numbers, such as batch_size")


def _value(key: str, value: Any) -> Any:
    if key in LISTS:
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise UserError("a list of words belongs here", key=key, allowed=f"{key}: [..., ...]")
        return value
    if key == "margin":
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise UserError(f"{value!r} is no number", key=key, allowed="points, such as 0.5")
        return None if value is None else float(value)
    if isinstance(value, Mapping | list):
        raise UserError("one value belongs here", key=key, allowed="a word or a sentence")
    if key in ("name", "says", "source") and not str(value or "").strip():
        raise UserError("a sentence belongs here", key=key, allowed="text that is not empty")
    return str(value)
