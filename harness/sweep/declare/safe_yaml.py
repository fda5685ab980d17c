"""The reader of experiment files as plain YAML: everything else is refused before Hydra composes the file.

An experiment file may be downloaded from a public place, so it is treated as hostile: a tag could run code, an
interpolation could read the environment, nested aliases could fill the memory. The file is therefore read as nodes of
text; nothing in it is run, opened or multiplied.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from harness.errors import UserError, shortened

MOST_BYTES = 1_000_000
#: The limit on commas and line ends, one for each value: parsing more would take minutes.
MOST_VALUES = 20_000
#: The limit on values, if every alias is replaced by the values that it refers to.
MOST_NODES = 100_000
DEEPEST = 30

TAG = "tag:yaml.org,2002:"
_PLAIN = {f"{TAG}{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map", "merge")}
#: The numbers that YAML reads in another base than the decimal one.
_ODD_NUMBER = re.compile(r"[-+]?(0[0-9_]+|[0-9_]+(:[0-5]?[0-9])+(\.[0-9_]*)?)")


def read(path: Path) -> yaml.MappingNode:
    """Return the nodes of an experiment file.

    Raises:
        UserError: the file does not exist, is not plain YAML, or is not a mapping.
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
        if path.exists() and not path.is_file():  # opening a pipe would block
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
    """Return how many nodes there are, this one included; each is visited only once, even if aliases repeat it."""
    line = node.start_mark.line + 1
    if any(node is parent for parent in above):
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
        # The cells must follow from the file alone; an environment variable would make them depend on the shell.
        raise UserError("interpolation is not allowed", where=f"{path}:{line}", allowed="plain values")
    if node.style is None and node.tag in (f"{TAG}int", f"{TAG}float") and _ODD_NUMBER.fullmatch(node.value):
        base = "base 60" if ":" in node.value else "octal"
        what = f"YAML reads {shortened(node.value, 60)} as a number in {base}"
        raise UserError(what, where=f"{path}:{line}", allowed="a number without leading zeros or colons, or quotes")
