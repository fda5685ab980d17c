"""The translation of Hydra's and OmegaConf's errors into user errors with a key and the allowed values."""

from __future__ import annotations

import re
import typing
from dataclasses import fields, is_dataclass
from typing import Any

from harness.errors import UserError, nearest
from harness.sweep.declare.schema import GROUPS, ExperimentSchema


def expected_at(key: str, hint: Any) -> str:
    """Return a description of the values that a key may have."""
    if is_dataclass(hint):
        names = ", ".join(item.name for item in fields(hint))
        return f"{names}; or in defaults, - {key}: NAME" if key in GROUPS else names
    kinds = {int: "a whole number", float: "a number", str: "a word", bool: "true, false", type(None): "null"}
    kinds |= {list: "a list, [] for none", dict: "a mapping, {} for none", Any: "true, false"}
    types = typing.get_args(hint) if typing.get_origin(hint) not in (list, dict) else [typing.get_origin(hint)]
    return ", ".join(kinds[kind] for kind in types or [hint])


def unknown_key(key: str) -> UserError:
    """Return the refusal of a key that does not exist, with its nearest sibling and all that are allowed."""
    siblings = _siblings(key)
    what = f"unknown key '{key}'{nearest(key.rsplit('.', 1)[-1], siblings)}"
    return UserError(what, key=key, allowed=", ".join(siblings))


def translated(error: Exception) -> UserError:
    """Return the user error that an error of Hydra or OmegaConf stands for."""
    text = f"{error}\n{error.__cause__ or ''}"
    if group := re.search(r"Could not find '(\w+)/(\S+)'", text):
        options = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        if group[1] not in GROUPS:
            what = f"unknown group '{group[1]}'{nearest(group[1], GROUPS)}"
            return UserError(what, key="defaults", allowed=", ".join(GROUPS))
        what = f"no {group[1]} '{group[2]}'{nearest(group[2], options)}"
        return UserError(what, key=group[1], allowed=", ".join(options))
    unknown = re.search(r"Key '([^']+)' (?:not in|is not in struct)", text)
    full_key = re.search(r"full_key: (\S+)", text)
    if unknown:
        return unknown_key(full_key[1] if full_key else unknown[1])
    merged = re.search(r"Error merging override \W*([\w.]+)=", text)
    key = full_key[1] if full_key else merged[1] if merged else "defaults"
    wrong_value = re.search(r"(Value|Cannot|Invalid) .*", text)
    what = wrong_value[0] if wrong_value else first_line(error)
    return UserError(what, key=key, allowed=_expected(key))


def first_line(error: Exception) -> str:
    """Return the first line of an error that says what is wrong, past the lines that only say where Hydra was."""
    lines = [line for line in str(error.__cause__ or error).splitlines() if line.strip()]
    causes = [line for line in lines if "raised while composing" not in line] or lines
    return causes[0].strip() if causes else type(error).__name__


def _expected(key: str) -> str:
    """Return a description of the values that a key of the schema may have, or the page that explains them."""
    node: Any = ExperimentSchema
    for name in key.split("."):
        node = typing.get_type_hints(node).get(name) if is_dataclass(node) else None
    return expected_at(key, node) if node else "what docs/experiments.md explains"


def _siblings(key: str) -> list[str]:
    """Return the keys that the schema has at the level of ``key``."""
    node: Any = ExperimentSchema
    for name in key.split(".")[:-1]:
        node = typing.get_type_hints(node).get(name)
        if not is_dataclass(node):
            return []
    return [item.name for item in fields(node)]
