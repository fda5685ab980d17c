"""Where a key of an experiment was written: a line of its file, its scale's overlay, or the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from harness.errors import UserError


class Locator:
    """Names the place of a dotted key, for error messages."""

    def __init__(self, path: Path, scale: str, overrides: Sequence[str]) -> None:
        self._path = path
        self._scale = scale
        self._overridden = {override.partition("=")[0].lstrip("+~"): override for override in overrides}
        self._lines = key_lines(path)

    def where(self, key: str) -> str:
        if key in self._overridden:
            return f"command line: {self._overridden[key]}"
        in_scale = f"scales.{self._scale}.{key}"
        for candidate in (in_scale, key):
            if candidate in self._lines:
                return f"{self._path}:{self._lines[candidate]}: {candidate}"
        return f"{self._path}: {key} (default)"


def key_lines(path: Path) -> dict[str, int]:
    """The line of every dotted key of a YAML file.

    Raises:
        UserError: the file does not exist or is no YAML.
    """
    if path.suffix != ".yaml":
        raise UserError("an experiment is a .yaml file", where=str(path), allowed="NAME.yaml")
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(str(file) for file in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise UserError("no such experiment", where=str(path), allowed=", ".join(known)) from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"not a YAML file: {getattr(error, 'problem', error)}", where=f"{path}{line}") from None
    lines: dict[str, int] = {}
    if not isinstance(root, yaml.MappingNode):
        raise UserError("an experiment is a mapping of keys", where=str(path), allowed="see experiments/")
    _collect(root, "", lines)
    return lines


def _collect(node: yaml.Node, prefix: str, lines: dict[str, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            dotted = f"{prefix}{key.value}"
            if dotted in lines:
                raise UserError(
                    f"'{dotted}' is there twice", where=f"lines {lines[dotted]} and {key.start_mark.line + 1}"
                )
            lines[dotted] = key.start_mark.line + 1
            _collect(value, f"{dotted}.", lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[f"{prefix.removesuffix('.')}[{index}]"] = value.start_mark.line + 1
            _collect(value, f"{prefix.removesuffix('.')}[{index}].", lines)
