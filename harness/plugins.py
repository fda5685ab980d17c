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
from dataclasses import replace
from pathlib import Path

from harness.catalog.losses import LOSSES, TEMPERATURE, LossEntry
from harness.catalog.parameters import INFINITY, Range
from harness.cell import Loss
from harness.errors import UserError, nearest

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
        announced = _announced(point)
        if announced:
            _add(point.name, announced)


def _announced(point: importlib.metadata.EntryPoint) -> LossEntry | None:
    """Return the loss of an entry point; None where its package is broken, which concerns its own users only."""
    try:
        spec = importlib.util.find_spec(point.module)
        found = losses_in(Path(spec.origin)) if spec and spec.origin else {}
    except Exception:  # noqa: BLE001  (whatever a stranger's package does when it is imported)
        return None
    entry = found.get(point.attr)
    return replace(entry, label=point.name, module=point.module) if entry else None


def losses_in(file: Path) -> dict[str, LossEntry]:
    """Return the losses that a Python file defines, by name.

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
    properties = _assigned_properties(tree, {node.name for node in functions}, file)
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
            what = f"the parameter '{argument.arg}' of {node.name} has {wrong} (a helper's name begins with _)"
            raise UserError(what, where=f"{file}:{argument.lineno}", allowed=EXAMPLE)
        parameters[argument.arg] = _range(argument.arg, value)
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


def _range(name: str, default: float) -> Range:
    """Return the allowed range: any number; above zero for a temperature."""
    return Range(TEMPERATURE.low if name == "temperature" else -INFINITY, INFINITY, default)


def _number(node: ast.expr | None) -> float | None:
    """Return the number of a default such as 0.3, 1 or -0.3; None where it is none."""
    try:
        value = ast.literal_eval(node) if node else None
    except ValueError:
        return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _assigned_properties(tree: ast.Module, functions: set[str], file: Path) -> dict[str, dict[str, bool]]:
    """Return the properties that are assigned as in ``my_loss.unit_norm = False``, by function."""
    found: dict[str, dict[str, bool]] = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if not (isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)):
                continue
            if target.value.id not in functions:
                continue
            value = node.value.value if isinstance(node.value, ast.Constant) else None
            if target.attr not in PROPERTIES or not isinstance(value, bool):
                raise UserError(
                    f"{target.value.id} has no property '{target.attr}' of this kind{nearest(target.attr, PROPERTIES)}",
                    where=f"{file}:{node.lineno}",
                    allowed=", ".join(f"{target.value.id}.{name} = True or False" for name in PROPERTIES),
                )
            found.setdefault(target.value.id, {})[target.attr] = value
    return found
