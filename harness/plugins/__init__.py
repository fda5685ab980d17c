"""Losses of users' own, from a file or an installed package; no torch, and nothing of a file is run to describe it.

A file's losses are its functions whose first two parameters are the views' embeddings (N, d); keyword-only parameters
with numbers for defaults are the loss's parameters, and an experiment can vary them::

    def my_loss(z1, z2, *, temperature=0.1, margin=0.3):
        ...

    my_loss.unit_norm = False   # it takes embeddings of any norm (otherwise it gets L2-normalised ones)
    my_loss.symmetric = False   # swapping the views changes it
    my_loss.stops_gradient = True   # its gradient is on purpose not that of its value

A keyword-only parameter ``state`` without a default is a dictionary that the loss keeps from step to step; it is in
every checkpoint. Modules beside the file that it imports are part of the loss (``harness.plugins.sources``).

An installed package announces its loss by an entry point of the group ``harness.losses``: ``name = "module:function"``.
"""

from __future__ import annotations

import ast
import importlib.metadata
import typing
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.catalog.losses import LOSSES, TEMPERATURE, LossEntry
from harness.catalog.parameters import INFINITY, Range
from harness.cell import Loss
from harness.errors import UserError, nearest
from harness.plugins import sources

GROUP = "harness.losses"
PROPERTIES = ("unit_norm", "symmetric", "stops_gradient")
EXAMPLE = "def my_loss(z1, z2, *, temperature=0.1): ..."
#: The parameter by which a loss gets what it keeps from step to step.
STATE = "state"
#: Why public names of registered files are no losses.
NO_LOSSES: dict[str, UserError] = {}
#: What a cell's loss has for something else than a number.
NOT_NUMBERS = {name for name, hint in typing.get_type_hints(Loss).items() if float not in typing.get_args(hint)}


def register(files: Iterable[str | Path]) -> None:
    """Add the losses of these files and of installed packages to the catalogue.

    Raises:
        UserError: a file cannot be read as losses, or a name is taken.
    """
    for file in files:
        described = describe(Path(file)).with_losses()
        NO_LOSSES.update(described.no_losses)
        for name, entry in described.losses.items():
            _add(name, entry)
    for point in importlib.metadata.entry_points(group=GROUP):
        announced = _announced(point)
        if announced:
            _add(point.name, announced)


def _announced(point: importlib.metadata.EntryPoint) -> LossEntry | None:
    """Return the loss of an entry point; None where its package is broken, which concerns its own users only."""
    try:
        spec = sources.find_installed(point.module)
        found = losses_in(Path(spec.origin), point.module) if spec and spec.origin else {}
    except Exception:  # noqa: BLE001  (whatever a stranger's package holds)
        return None
    entry = found.get(point.attr)
    return replace(entry, label=point.name) if entry else None


@dataclass(frozen=True)
class Described:
    """What a file defines: its losses by name, and why its other public names are none."""

    file: Path
    losses: dict[str, LossEntry]
    no_losses: dict[str, UserError]

    def with_losses(self) -> Described:
        """Return this.

        Raises:
            UserError: there is no loss; it says what is wrong with the first function.
        """
        if self.losses:
            return self
        why = next(iter(self.no_losses.values()), None)
        what = f"{why.what}, so it defines no loss" if why else "it defines no loss"
        raise UserError(what, where=why.where if why else str(self.file), allowed=EXAMPLE)


def losses_in(file: Path, module: str = "") -> dict[str, LossEntry]:
    """Return the losses that a Python file defines, by name.

    Raises:
        UserError: there is no such file, it is no Python, or it defines no loss.
    """
    return describe(file, module).with_losses().losses


def describe(file: Path, module: str = "") -> Described:
    """Return what a Python file defines, which may be that of an installed module.

    Raises:
        UserError: there is no such file, or it is no Python.
    """
    try:
        source = sources.read(file, module)
    except SyntaxError as error:
        where = f"{file}:{error.lineno}" if error.lineno else str(file)
        raise UserError(f"not a file of losses: {error.msg}", where=where, allowed="a Python file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"not a file of losses: {error}", where=str(file), allowed="a Python file") from None
    tree = ast.parse(source.file.content)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    properties = _assigned_properties(tree, {node.name for node in functions}, file)
    found = Described(file, {}, {})
    for node in functions:
        try:
            _refuse_signature(node, file)
            entry = _entry(node, file, properties.get(node.name, {}))
        except UserError as error:
            _refuse_taken(node.name, file)  # or else the catalogue's loss would be trained in its place
            found.no_losses[node.name] = error
        else:
            found.losses[node.name] = replace(entry, module=module, source=source.hash)
    found.no_losses.update(_other_names(tree, file))
    return found


def _other_names(tree: ast.Module, file: Path) -> dict[str, UserError]:
    """Return why a class, an assigned or an imported name is no loss, by name."""
    kinds: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            kinds[node.name] = "a class"
        elif isinstance(node, ast.AsyncFunctionDef):
            kinds[node.name] = "an asynchronous function"
        elif isinstance(node, ast.Assign):
            kinds |= {target.id: "an assigned value" for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            kinds |= {alias.asname or alias.name: "imported" for alias in node.names}
    allowed = f"a function of this file that calls it, such as {EXAMPLE}"
    return {
        name: UserError(f"{name} is {kind}, no function that the file defines", where=str(file), allowed=allowed)
        for name, kind in kinds.items()
        if not name.startswith("_")
    }


def _refuse_signature(node: ast.FunctionDef, file: Path) -> None:
    """Raise a UserError unless the function takes two arguments by position, and any others by their names."""
    taken = [argument.arg for argument in node.args.posonlyargs + node.args.args]
    if len(taken) == 2 and not node.args.vararg and not node.args.kwarg:
        return
    starred = [f"{stars}{arg.arg}" for stars, arg in (("*", node.args.vararg), ("**", node.args.kwarg)) if arg]
    more = ", ".join([*taken[2:], *starred])
    what = f"{node.name} also takes {more}" if more else f"{node.name} takes {len(taken)} arguments by position"
    hint = "; a loss gets no labels: training is self-supervised" if "label" in more or "target" in more else ""
    raise UserError(
        f"{what}: a loss takes the two views' embeddings, and its parameters by name, after a *{hint}",
        where=f"{file}:{node.lineno}",
        allowed=EXAMPLE,
    )


def _refuse_taken(name: str, file: Path) -> None:
    known = LOSSES.get(name)
    if known is not None and not known.source:
        raise UserError(f"the name '{name}' is taken by harness itself", where=str(file), allowed="another name")


def _add(name: str, entry: LossEntry) -> None:
    known = LOSSES.get(name)
    if known is not None and (known.file, known.source) != (entry.file, entry.source):
        owner = known.file or "harness itself"
        raise UserError(f"the name '{name}' is taken by {owner}", where=entry.file, allowed="another name")
    LOSSES[name] = entry


def _entry(node: ast.FunctionDef, file: Path, properties: dict[str, bool]) -> LossEntry:
    parameters, keeps_state = {}, False
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if argument.arg == STATE and default is None:
            keeps_state = True
            continue
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
        keeps_state=keeps_state,
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
