"""An experiment file is plain YAML: everything else is refused here, before Hydra composes it.

A file may come from anywhere. It is looked at as nodes of text: nothing in it is run, opened or multiplied.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from harness.errors import UserError, shortened

MOST_BYTES = 1_000_000
#: A comma or a line's end for each value: more would be parsed for minutes.
MOST_VALUES = 20_000
#: With what aliases stand for counted as often as they stand there.
MOST_NODES = 100_000
DEEPEST = 30

TAG = "tag:yaml.org,2002:"
_PLAIN = {f"{TAG}{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map", "merge")}
#: Numbers that YAML reads in another base than they are written in.
_ODD_NUMBER = re.compile(r"[-+]?(0[0-9_]+|[0-9_]+(:[0-5]?[0-9])+(\.[0-9_]*)?)")


def read(path: Path) -> yaml.MappingNode:
    """The nodes of an experiment file.

    Raises:
        UserError: the file does not exist, is no plain YAML, or no mapping.
    """
    text = _text(path)
    if (values := text.count(",") + text.count("\n")) > MOST_VALUES:
        what = f"it holds about {values:,} lines and values"
        raise UserError(what, where=str(path), allowed=f"at most {MOST_VALUES:,}; a number of seeds needs no list")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _no_yaml(f"it holds the character {chr(error.character)!r}", path, line) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or error
        raise _no_yaml(str(problem).splitlines()[0], path, mark.line + 1 if mark else 1) from None
    except RecursionError:
        raise _no_yaml("it is nested too deeply", path, 1) from None
    if not isinstance(root, yaml.MappingNode):
        raise UserError("an experiment is a mapping of keys", where=str(path), allowed="see experiments/")
    _size(root, path, {}, [])
    return root


def _text(path: Path) -> str:
    if path.suffix != ".yaml":
        raise UserError("an experiment is a .yaml file", where=str(path), allowed="NAME.yaml")
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UserError("it is no file", where=str(path), allowed="a .yaml file")
        if path.stat().st_size > MOST_BYTES:
            raise UserError("it is too large", where=str(path), allowed=f"at most {MOST_BYTES:,} bytes")
        content = path.read_bytes()
    except FileNotFoundError:
        known = sorted(str(file) for file in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise UserError(
            "no such experiment", where=str(path), allowed=", ".join(known) or "a .yaml file; none is there"
        ) from None
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror}", where=str(path), allowed="a readable file") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _no_yaml(f"byte {content[error.start]:#04x} is no UTF-8 text", path, line) from None


def _no_yaml(why: str, path: Path, line: int) -> UserError:
    return UserError(f"not a YAML file: {why}", where=f"{path}:{line}", allowed="plain YAML in UTF-8")


def _size(node: yaml.Node, path: Path, known: dict[int, int], above: list[yaml.Node]) -> int:
    """How many nodes there are below this one; each is looked at once, however often it is referred to."""
    line = node.start_mark.line + 1
    if any(node is one for one in above):
        raise _refused("an anchor that holds itself", path, line)
    if len(above) > DEEPEST:
        raise _refused(f"more than {DEEPEST} levels", path, line)
    if id(node) not in known:
        _refuse_odd(node, path, line)
        known[id(node)] = 1 + sum(_size(child, path, known, [*above, node]) for child in _children(node))
    if known[id(node)] > MOST_NODES:
        raise _refused(f"aliases that stand for {known[id(node)]:,} values", path, line)
    return known[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _refused(what: str, path: Path, line: int) -> UserError:
    return UserError(f"{what}: not allowed here", where=f"{path}:{line}", allowed="plain values")


def _refuse_odd(node: yaml.Node, path: Path, line: int) -> None:
    if node.tag not in _PLAIN:
        raise _refused(f"the tag {shortened(node.tag.replace(TAG, '!!'), 60)}", path, line)
    if not isinstance(node, yaml.ScalarNode):
        return
    if "${" in node.value:
        # What a cell is must be readable in its file: an environment variable would make it depend on the shell.
        raise UserError("interpolation is not allowed", where=f"{path}:{line}", allowed="plain values")
    if node.style is None and node.tag in (f"{TAG}int", f"{TAG}float") and _ODD_NUMBER.fullmatch(node.value):
        base = "base 60" if ":" in node.value else "octal"
        what = f"YAML reads {shortened(node.value, 60)} as a number in {base}"
        raise UserError(what, where=f"{path}:{line}", allowed="a number without leading zeros or colons, or quotes")
