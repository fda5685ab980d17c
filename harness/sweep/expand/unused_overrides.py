"""Overrides of the command line that have no effect, because another key of the declaration decides.

An override that another key replaces in every cell is refused, because whoever typed it expects another sweep than the
one that would run. Where no cell and no machine reads a value, a note says so, because the sweep is the expected one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.cell import OWN, Cell, get, paths, short_name
from harness.errors import UserError, located
from harness.evaluation import LINEAR_PROBES
from harness.sweep.declare.compose import Declaration
from harness.sweep.declare.fields import variable_path
from harness.sweep.declare.overrides import Override, shown
from harness.sweep.expand.axes import Grid, grids
from harness.sweep.expand.grid import Expansion
from harness.sweep.expand.resources import set_for_every
from harness.trees import Node

#: The keys of ``cluster:`` that only jobs of a scheduler read.
OF_JOBS = (
    "time", "partition", "account", "qos", "constraint", "memory", "gpu_type", "throttle", "max_jobs", "cells_per_job",
    "requeue", "grace", "sbatch", "srun", "python", "setup", "interface", "stage",
)  # fmt: skip


def refuse(declaration: Declaration) -> None:
    """Refuse an override of what axes, ``grids``, ``derive`` or the length of training replace in every cell.

    Raises:
        UserError: there is one, or the grids are not right.
    """
    with located(declaration.locator.where):
        declared = grids(declaration)
        for override in declaration.typed:
            for key, value in override.values.items():
                if replaced := _replaced(key, value, declaration, declared):
                    raise _without_effect(override, *replaced)


def refuse_of_resources(declaration: Declaration, expansion: Expansion) -> None:
    """Refuse an override of a key of ``cluster:`` that entries of ``resources`` set for every cell.

    Raises:
        UserError: there is one.
    """
    if declaration.experiment.resources:
        always = set_for_every([cell for cell, _ in expansion.cells], declaration)
        for override, key, _ in _values(declaration, "cluster."):
            if key.removeprefix("cluster.") in always:
                remedy = f"'resources=[]' {override.text}, or another list of resources"
                raise _without_effect(override, "entries of resources set it for every cell", remedy)


def notes(declaration: Declaration, expansion: Expansion) -> list[str]:
    """Return a note for each override, or value of a chosen group, that nothing reads."""
    return [
        *_shadowed_values_of_groups(declaration),
        *_parameters_of_no_cell(declaration, expansion),
        *_keys_of_another_scheduler(declaration),
        *_keys_of_another_probe(declaration),
    ]


def _values(declaration: Declaration, prefix: str) -> Iterator[tuple[Override, str, Node]]:
    for override in declaration.typed:
        for key, value in override.values.items():
            if key.startswith(prefix):
                yield override, key, value


def _without_effect(override: Override, why: str, allowed: str) -> UserError:
    return UserError(f"{override.text} has no effect, {why}", where="command line", allowed=allowed)


def _replaced(key: str, value: Node, declaration: Declaration, declared: Sequence[Grid]) -> tuple[str, str] | None:
    """Return what replaces the value of a key in every cell, and the override that would have an effect."""
    if key.startswith("axes."):
        path = variable_path(key.removeprefix("axes."))
        keys = dict.fromkeys(grid.keys[path] for grid in declared)
        return None if key in keys else (_vary(keys, "it"), _as_axes(keys, value))
    if key not in paths(Cell) and not key.startswith(OWN):
        return None
    if key in ("epochs", "steps") and (replaced := _replaced_length(key, value, declaration, declared)):
        return replaced
    for name in declaration.experiment.derive:
        if variable_path(name) == key:
            return f"derive.{name} sets it", f"~derive.{name} {key}={shown(value)}"
    factors = [[factor for factor in grid.factors if key in factor.keys] for grid in declared]
    if all(factors) and not any(factor.only for of_grid in factors for factor in of_grid):
        keys = dict.fromkeys(grid.keys[key] for grid in declared)
        return _vary(keys, "it"), _as_axes(keys, [value])
    return None


def _replaced_length(
    key: str, value: Node, declaration: Declaration, declared: Sequence[Grid]
) -> tuple[str, str] | None:
    """Return what else says how long every cell trains, and the overrides that would have an effect."""
    of_steps = dict.fromkeys(grid.keys["steps"] for grid in declared if "steps" in grid.keys)
    instead = f"{key}={shown(value)}" if value is not None else _typed_epochs(declaration)
    if declaration.budget:
        return _replaced_by_budget(key, value, instead, next(iter(declaration.budget)))
    if key == "epochs" and declaration.settings["steps"] is not None:
        return "steps says how long a cell trains", f"steps=null {instead}"
    if (key == "epochs" or value is None) and all("steps" in grid.keys for grid in declared):
        removed = " ".join(f"~{name}" for name in of_steps)
        return _vary(of_steps, "steps" if key == "epochs" else "it"), f"{removed} {instead}".strip()
    return None


def _replaced_by_budget(key: str, value: Node, instead: str, name: str) -> tuple[str, str] | None:
    """Return what ``_replaced_length`` does, for a budget; ``steps=null`` agrees with a budget of epochs."""
    if value is None and name != key:
        return None
    taken_back = f"budget.{name}=null" if name != key or value is None else ""
    in_budget = f"budget.{instead}" if instead else ""
    return f"budget.{name} says how long a cell trains", f"{taken_back} {in_budget}".strip()


def _typed_epochs(declaration: Declaration) -> str:
    """Return the epochs that are typed beside an override that takes steps back; nothing where none are."""
    typed = (
        f"epochs={shown(override.values['epochs'])}" for override in declaration.typed if "epochs" in override.values
    )
    return next(typed, "")


def _vary(keys: dict[str, None], what: str) -> str:
    return f"{' and '.join(keys)} {'varies' if len(keys) == 1 else 'vary'} {what}"


def _as_axes(keys: dict[str, None], value: Node) -> str:
    """Return the overrides that give these axes the values."""
    listed = "[" + ",".join(map(shown, value)) + "]" if isinstance(value, list) else shown(value)
    zips, axes = [key for key in keys if "[" in key], [key for key in keys if "[" not in key]
    return " ".join([*(f"{key}={listed}" for key in axes), *(f"another {key.partition('[')[0]}=[...]" for key in zips)])


def _shadowed_values_of_groups(declaration: Declaration) -> Iterator[str]:
    """Yield a note for each value of a chosen group that has no effect because an axis varies the field."""
    with located(declaration.locator.where):
        declared = grids(declaration)
    for override, values in declaration.chosen.items():
        for path, value in values.items():
            if all(path in grid.keys and value not in grid.values(path) for grid in declared):
                axis = f"axes.{short_name(path)}=[{value}]"
                yield f"{override} sets {path} to {value}, but an axis varies it: {axis} takes it"


def _parameters_of_no_cell(declaration: Declaration, expansion: Expansion) -> Iterator[str]:
    for group in ("loss", "method"):
        for override, key, value in _values(declaration, f"{group}."):
            if value is not None and all(get(cell, key) is None for cell, _ in expansion.cells):
                names = dict.fromkeys(str(get(cell, f"{group}.name")) for cell, _ in expansion.cells)
                yield f"{override.text} has no effect: no cell has a {group} with it ({', '.join(names)})"


def _keys_of_another_scheduler(declaration: Declaration) -> Iterator[str]:
    on_cluster = declaration.cluster.scheduler != "none"
    for override, key, value in _values(declaration, "cluster."):
        name = key.split(".")[1]
        if value is not None and not on_cluster and name in OF_JOBS:
            yield f"{override.text} has no effect on this machine; it is for jobs of a cluster (cluster=NAME)"
        elif value is not None and on_cluster and name == "slots":
            yield f"{override.text} has no effect on a cluster; cluster.throttle limits what runs at a time"


def _keys_of_another_probe(declaration: Declaration) -> Iterator[str]:
    linear = declaration.evaluation.linear
    for override, key, value in _values(declaration, "evaluate."):
        name = key.removeprefix("evaluate.")
        if value is not None and name in LINEAR_PROBES.values() and name != LINEAR_PROBES[linear]:
            yield f"{override.text} has no effect: the linear probe '{linear}' does not read it"
