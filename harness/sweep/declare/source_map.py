"""The place of each key of an experiment: a line of its file, of its scale's overlay, or the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from harness.errors import UserError, shortened
from harness.sweep.declare.safe_yaml import TAG, read


class Locator:
    """Finds the place of a dotted key, for error messages."""

    def __init__(self, path: Path, scale: str, overrides: Sequence[str]) -> None:
        self._path = path
        self._scale = scale
        keys = {override: override.partition("=")[0].lstrip("+~") for override in overrides}
        self._overridden = {re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", key): override for override, key in keys.items()}
        self._lines = key_lines(path)

    def where(self, key: str) -> str:
        """Return the line of the file, or the override of the command line, that sets the key."""
        for candidate in (key, f"{key}.name", *_above(key)):
            if candidate in self._overridden:
                return f"command line: {shortened(self._overridden[candidate], 200)}"
        # An item of a list has no line if the list was merged into its mapping; then the line of the list is taken.
        for name in (key, *(above for above in _above(key) if "[" in key)):
            for candidate in (f"scales.{self._scale}.{name}", name):
                if candidate in self._lines:
                    return f"{self._path}:{self._lines[candidate]}: {key}"
        return f"{self._path}: {key} (default)"


def _above(key: str) -> Iterator[str]:
    """Yield the keys above a key: ``exclude[0]`` and ``exclude`` for ``exclude[0].where``."""
    while key := re.sub(r"(\.[^.\[]*|\[\d+\]|^[^.\[]*)$", "", key):
        yield key


def key_lines(path: Path) -> dict[str, int]:
    """Return the line of every dotted key of an experiment file.

    Raises:
        UserError: the file does not exist, is not plain YAML, or is not a mapping.
    """
    lines: dict[str, int] = {}
    _collect(read(path), "", lines, path)
    return lines


def _collect(node: yaml.Node, prefix: str, lines: dict[str, int], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        merged = [(key, value) for key, value in node.value if key.tag == f"{TAG}merge"]
        for key, value in node.value:
            if key.tag != f"{TAG}merge":
                _collect_key(key, value, prefix, lines, path)
        for key, value in merged:
            _collect_merged(key, value, prefix, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[f"{prefix.removesuffix('.')}[{index}]"] = value.start_mark.line + 1
            _collect(value, f"{prefix.removesuffix('.')}[{index}].", lines, path)


def _collect_key(key: yaml.Node, value: yaml.Node, prefix: str, lines: dict[str, int], path: Path) -> None:
    line = key.start_mark.line + 1
    if not isinstance(key, yaml.ScalarNode) or key.tag != f"{TAG}str":
        written = shortened(key.value, 60) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
        what = f"YAML does not read the key '{written}' as text"
        raise UserError(what, where=f"{path}:{line}", allowed="a key in quotes, or another")
    dotted = f"{prefix}{key.value}"
    if dotted in lines:
        what = f"'{shortened(dotted, 60)}' is there twice, in lines {lines[dotted]} and {line}"
        raise UserError(what, where=f"{path}:{line}", allowed="one of them")
    lines[dotted] = line
    _collect(value, f"{dotted}.", lines, path)


def _collect_merged(key: yaml.Node, value: yaml.Node, prefix: str, lines: dict[str, int], path: Path) -> None:
    """Collect the keys that ``<<: *anchor`` merges from another mapping, unless the mapping itself has them."""
    for mapping in value.value if isinstance(value, yaml.SequenceNode) else [value]:
        if not isinstance(mapping, yaml.MappingNode):
            where = f"{path}:{key.start_mark.line + 1}"
            raise UserError("'<<' merges a mapping", where=where, allowed="<<: *ANCHOR of a mapping")
        below: dict[str, int] = {}
        _collect(mapping, prefix, below, path)
        for dotted, line in below.items():
            lines.setdefault(dotted, line)
