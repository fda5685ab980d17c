"""The overrides of a command line: what each of them sets, and which are refused before Hydra composes the experiment.

Hydra's grammar reads more than harness carries out: sweeps over values, and settings of Hydra itself. Its errors are
about another program; those that are raised here name the argument and the form that harness reads.
"""

from __future__ import annotations

import os
import re
import shlex
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, RangeSweep
from hydra.core.override_parser.types import Override as HydraOverride
from hydra.errors import HydraException

from harness.cell import Cell, paths, short_name
from harness.errors import UserError, shortened
from harness.sweep.declare.fields import field_path, variable_path
from harness.sweep.declare.schema import GROUPS, ExperimentSchema
from harness.trees import Node, leaves

EXAMPLE = "Hydra overrides such as dataset=cifar10 or 'axes.batch_size=[32,256]'"
KEY = re.compile(r"(\+\+?)?[\w./-]+")
#: Words that the grammar reads as text without quotes.
PLAIN_WORD = re.compile(r"(?!(?:true|false|null|nan|inf)$)[A-Za-z][\w-]*", re.IGNORECASE)
#: The values that a message writes out, of a sweep over many.
MOST_VALUES = 20


@dataclass(frozen=True)
class Override:
    """One override; ``key``: the dotted key or the group that it sets, or removes if it ``deletes``."""

    text: str
    key: str
    value: Node
    deletes: bool = False

    @property
    def where(self) -> str:
        """The override as the place of an error."""
        return f"command line: {shortened(self.text, 200)}"

    @property
    def values(self) -> dict[str, Node]:
        """Return the single values that it sets, by dotted key; those of a group are not known here."""
        if self.deletes or (self.key in GROUPS and not isinstance(self.value, Mapping)):
            return {}
        return leaves(self.value, f"{self.key}.") if isinstance(self.value, Mapping) else {self.key: self.value}

    def replaces(self, key: str) -> bool:
        """Whether it sets or removes the same key, or removes one above it."""
        return key in (self.key, *self.values) or (self.deletes and key.startswith(f"{self.key}."))


def read(texts: Sequence[str]) -> list[Override]:
    """Return the overrides of a command line.

    Raises:
        UserError: one of them cannot be read, is meant for Hydra itself, or is without effect whatever the file says.
    """
    parser = OverridesParser.create()
    overrides = [_read(text, parser) for text in texts]
    for index, earlier in enumerate(overrides):
        for later in overrides[index + 1 :]:
            _refuse_twice(earlier, later)
    return overrides


def _read(text: str, parser: OverridesParser) -> Override:
    try:
        (parsed,) = parser.parse_overrides([text])
    except HydraException:
        raise _unreadable(text) from None
    key = parsed.key_or_group + (f"@{parsed.package}" if parsed.package else "")
    if not key:
        raise _unreadable(text)
    if parsed.is_sweep_override():
        raise _no_sweep(text, key, _values_of(parsed))
    override = Override(text, key, typing.cast("Node", parsed.value()), parsed.is_delete())
    _check(override)
    return override


def _unreadable(text: str) -> UserError:
    """Return the error for an override that Hydra's grammar cannot read, with the form in quotes that it can."""
    key, equals, value = text.partition("=")
    where = f"command line: {shortened(text, 200)}"
    if not equals and text.endswith((".yaml", ".yml")):
        return UserError("a second file", where=where, allowed="one experiment file, then overrides KEY=VALUE")
    if not equals or not KEY.fullmatch(key):
        as_key = re.sub(r"\[(\d+)\]", r".\1", key)
        hint = f"{as_key}={value}" if equals and KEY.fullmatch(as_key) else EXAMPLE
        return UserError("no override of the form KEY=VALUE", where=where, allowed=hint)
    if value.startswith(("[", "{")):
        what = "a list or mapping that is not closed, or has a special character outside of quotes"
        return UserError(
            what, where=where, allowed="[32,256], ['two words',3] or {lr: 0.1}, within quotes of the shell"
        )
    quoted = f"{key}={grammar(os.path.expanduser(value))}"
    what = "a value with special characters needs quotes within those of the shell"
    return UserError(what, where=where, allowed=shell_word(quoted))


def shell_word(text: str) -> str:
    """Return the text as one word of a shell, in double quotes where that is possible: it may hold single ones."""
    return shlex.quote(text) if re.search(r'["$`!]|\\\\|\\$', text) else f'"{text}"'


def _values_of(parsed: HydraOverride) -> list[Node] | None:
    """Return the values of a sweep of Hydra's, or None if it does not list them, or many."""
    value = parsed.value()
    if isinstance(value, ChoiceSweep):
        return [typing.cast("Node", HydraOverride._convert_value(item)) for item in value.list]
    if isinstance(value, RangeSweep) and value.start is not None and value.stop is not None and value.step:
        count = (value.stop - value.start) / value.step
        return [_rounded(item) for item in value.range()] if count <= MOST_VALUES else None
    return None


def _rounded(value: float) -> float:
    """Return the number that a person would type for a sum of decimal fractions."""
    return value if isinstance(value, int) else float(f"{value:.10g}")


def _no_sweep(text: str, key: str, values: Sequence[Node] | None) -> UserError:
    """Return the error for several values of a key (``seed=0,1``): only axes are crossed, and they have lists."""
    where, what = f"command line: {shortened(text, 200)}", "several values are a list, on an axis"
    listed = "[" + ",".join(map(shown, values)) + "]" if values else "[VALUE,VALUE]"
    if key.startswith(("axes.", "grids.")):
        return UserError(what, where=where, allowed=f"{key}={listed}")
    try:
        path = variable_path(key)
    except UserError as error:
        typed = text.partition("=")[2]
        if key in paths(Cell) or key in GROUPS:
            return UserError(f"{key} takes one value", where=where, allowed=error.allowed)
        quoted = f"{key}={grammar(typed)}"
        return UserError(f"{key} takes one value", where=where, allowed=f"{shell_word(quoted)} if that is one")
    return UserError(what, where=where, allowed=f"axes.{_axis(path)}={listed}")


def _axis(path: str) -> str:
    """Return the shortest name of a field that an axis can have."""
    try:
        return short_name(path) if field_path(short_name(path)) == path else path
    except UserError:
        return path


def _check(override: Override) -> None:
    """Refuse an override that has no effect whatever the file says, and one that takes a field for something else."""
    key, value, typed = override.key, override.value, override.text.partition("=")[2]
    known = typing.get_type_hints(ExperimentSchema)
    what, allowed = "", ""
    if "${" in override.text:
        what, allowed = "interpolation is not allowed", "plain values"
    elif re.match(r"hydra(?=[./@]|$)", key):
        what, allowed = "settings of Hydra have no effect: harness only composes files with it", EXAMPLE
    elif "@" in key:
        what, allowed = "a group has one place, whatever package is named", f"{key.partition('@')[0]}={typed}"
    elif key in GROUPS and not override.deletes and not isinstance(value, str | Mapping):
        what, allowed = f"{key} is a group, which is chosen by its name", f"{key}=NAME"
    elif key.startswith("scales.") and not override.deletes:
        rest = key.split(".", 2)[2:]
        what = "scales are read from the file alone, so that this has no effect"
        allowed = f"{rest[0]}={typed}" if rest else "the keys themselves, which overrule those of the scale"
    elif key in ("scales", "defaults") or key.startswith("scales."):
        what, allowed = f"{key.partition('.')[0]} are read from the file alone", "a change of the file"
    elif value == {} and "." not in key and not override.deletes:
        what, allowed = "a mapping is merged, so that an empty one has no effect", f"~{key}, which removes its keys"
    elif isinstance(value, list) and key in paths(Cell):
        raise _no_sweep(override.text, key, value)
    elif key == "loss" and isinstance(value, str):
        what, allowed = "loss is a mapping of keys", f"axes.loss=[{shown(value)}]"
    elif "." not in key and key not in known and not override.deletes and (path := _path_of(key)):
        what, allowed = f"unknown key '{key}', did you mean '{path}'?", f"{path}={typed}"
    if what:
        raise UserError(what, where=override.where, allowed=allowed)


def _path_of(name: str) -> str:
    """Return the path of a field by its short name, or nothing if there is none."""
    try:
        return field_path(name)
    except UserError:
        return ""


def _refuse_twice(earlier: Override, later: Override) -> None:
    keys = [] if earlier.deletes else list(earlier.values) or [earlier.key]
    if any(later.replaces(key) for key in keys):
        what = f"{shortened(earlier.text, 200)} has no effect, {shortened(later.text, 200)} replaces it"
        raise UserError(what, where="command line", allowed="one of them")


def shown(value: Node) -> str:
    """Return a value as a person would type it: a plain word has no quotes."""
    return value if isinstance(value, str) and PLAIN_WORD.fullmatch(value) else grammar(value)


def grammar(value: Node) -> str:
    """Return a plain value in Hydra's override grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # Hydra takes a backslash literally, unless a run of them stands before a quote.
        return "'" + re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), value) + "'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{grammar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(grammar(item) for item in value) + "]"
    return repr(value)
