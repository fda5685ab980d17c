"""Losses of users' own, from a file or an installed package; no torch, and nothing of a file is run to describe it.

A file's losses are its functions whose first two parameters are the views' embeddings (N, d); keyword-only parameters
with numbers for defaults are the loss's parameters, and an experiment can vary them::

    def my_loss(z1, z2, *, temperature=0.1, margin=0.3):
        ...

    my_loss.unit_norm = False   # it takes embeddings of any norm (otherwise it gets L2-normalised ones)
    my_loss.symmetric = False   # swapping the views changes it
    my_loss.stops_gradient = True   # its gradient is on purpose not that of its value

An installed package announces its loss by an entry point of the group ``harness.losses``: ``name = "module:function"``.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import typing
from collections.abc import Iterable
from pathlib import Path

from harness.catalog import INFINITY, LOSSES, TEMPERATURE, LossEntry, Range
from harness.cell import Loss
from harness.errors import UserError

GROUP = "harness.losses"
PROPERTIES = ("unit_norm", "symmetric", "stops_gradient")
EXAMPLE = "def my_loss(z1, z2, *, temperature=0.1): ..."
#: What a cell's loss has for something else than a number.
NOT_NUMBERS = {name for name, hint in typing.get_type_hints(Loss).items() if float not in typing.get_args(hint)}


def register(files: Iterable[str | Path]) -> None:
    """Add the losses of these files and of installed packages to the catalogue.

    Raises:
        UserError: a file cannot be read as losses, or a name is taken.
    """
    for file in files:
        for name, entry in losses_in(Path(file)).items():
            _add(name, entry)
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            spec = importlib.util.find_spec(point.module)
        except ImportError:  # of a package that is not there
            spec = None
        if spec is None or spec.origin is None or point.attr not in (found := losses_in(Path(spec.origin))):
            raise UserError(f"'{point.value}' is no loss", where=f"entry point {GROUP}: {point.name}", allowed=EXAMPLE)
        _add(point.name, found[point.attr])


def losses_in(file: Path) -> dict[str, LossEntry]:
    """The losses that a Python file defines, by name.

    Raises:
        UserError: there is no such file, it is no Python, or it defines no loss.
    """
    try:
        content = file.read_bytes()
        tree = ast.parse(content)
    except SyntaxError as error:
        where = f"{file}:{error.lineno}" if error.lineno else str(file)
        raise UserError(f"not a file of losses: {error.msg}", where=where, allowed="a Python file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"not a file of losses: {error}", where=str(file), allowed="a Python file") from None
    source = hashlib.sha256(content).hexdigest()[:12]
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    properties = _assigned_properties(tree)
    found = {
        node.name: _entry(node, file, source, properties.get(node.name, {}))
        for node in functions
        if len(node.args.posonlyargs + node.args.args) == 2
    }
    if not found:
        raise UserError("it defines no loss", where=str(file), allowed=EXAMPLE)
    return found


def _add(name: str, entry: LossEntry) -> None:
    known = LOSSES.get(name)
    if known is not None and (known.file, known.source) != (entry.file, entry.source):
        owner = known.file or "harness itself"
        raise UserError(f"the name '{name}' is taken by {owner}", where=entry.file, allowed="another name")
    LOSSES[name] = entry


def _entry(node: ast.FunctionDef, file: Path, source: str, properties: dict[str, bool]) -> LossEntry:
    parameters = {}
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        value = _number(default)
        if value is None or argument.arg in NOT_NUMBERS:
            wrong = "no number for a default" if value is None else "a name that harness uses"
            what = f"the parameter '{argument.arg}' of {node.name} has {wrong}"
            raise UserError(what, where=f"{file}:{argument.lineno}", allowed=EXAMPLE)
        low = TEMPERATURE.low if argument.arg == "temperature" else -INFINITY
        parameters[argument.arg] = Range(low, INFINITY, value)
    lines = (ast.get_docstring(node) or "").splitlines()
    return LossEntry(
        label=node.name,
        paper=str(file),
        equation=lines[0] if lines else "",
        parameters=parameters,
        negatives="both views",
        symmetric=properties.get("symmetric", True),
        unit_norm=properties.get("unit_norm", True),
        stops_gradient=properties.get("stops_gradient", False),
        reduction="its own",
        distributed="batch",
        file=str(file.resolve()),
        function=node.name,
        source=source,
    )


def _number(node: ast.expr | None) -> float | None:
    """What a default says, if it is a number: 0.3, 1, -0.3."""
    try:
        value = ast.literal_eval(node) if node else None
    except ValueError:
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _assigned_properties(tree: ast.Module) -> dict[str, dict[str, bool]]:
    """``my_loss.unit_norm = False`` and the like, by function."""
    found: dict[str, dict[str, bool]] = {}
    for node in tree.body:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)):
            continue
        for target in node.targets:
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.attr in PROPERTIES:
                found.setdefault(target.value.id, {})[target.attr] = bool(node.value.value)
    return found
