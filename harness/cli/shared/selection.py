"""Which cells a verb is about: experiments, cell ids and filters, in any combination.

An experiment is a file (at its default scale, or at ``scale=NAME``) or ``<experiment>.<scale>``; an id is at least 6
digits of it; a filter such as ``'loss=dcl batch_size<=64'`` or ``state=failed`` leaves those that fulfil it, of what
else is named, or of all that was declared or begun.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from harness import filters
from harness.cell import OWN, Cell, paths, short_name
from harness.cli.shared.arguments import command
from harness.cli.shared.completion import swept_experiments
from harness.errors import UnreadableFile, UserError, located
from harness.filters import Filter
from harness.manifest import Expected, Manifest, label
from harness.store.index import Index
from harness.store.record import Record
from harness.sweep.declare import safe_yaml
from harness.sweep.declare.fields import field_path
from harness.trees import Scalar, value_at

#: Enough of an id to tell cells apart.
CELL_ID = re.compile(r"[0-9a-f]{6,12}")
#: In a filter, and no fields of a cell.
STATE, COLLAPSED = "state", "collapsed"
#: The name of cells that were begun and stand in no manifest.
OTHERS = "of no experiment"
#: What a cell is called by that differs from no other.
NAMING = ["loss.name", "batch_size", "seed"]
#: Of values that a message lists.
MOST_VALUES = 10

HELP = (
    "An experiment file (and scale=NAME) or <experiment>.<scale>, cell ids (at least 6 digits), "
    "filters such as 'loss=dcl batch_size<=64' or state=failed."
)
Target = Annotated[list[str], typer.Argument(help=HELP, show_default=False, autocompletion=swept_experiments)]
AnyTarget = Annotated[
    list[str] | None,
    typer.Argument(help=f"{HELP} By default everything.", show_default=False, autocompletion=swept_experiments),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@dataclass(frozen=True)
class Group:
    """Chosen cells of one experiment; of none where ``manifest`` is None."""

    manifest: Manifest | None
    cells: list[Expected]

    @property
    def name(self) -> str:
        """The experiment and scale, or what cells without an experiment are called."""
        return self.manifest.name if self.manifest else OTHERS


@dataclass(frozen=True)
class Selection:
    """What was named; a cell that stands in several experiments is in several groups.

    ``damaged``: of everything, what is wrong with manifests that cannot be read, by experiment.
    """

    groups: list[Group]
    index: Index
    damaged: Mapping[str, UserError]

    @property
    def cell_ids(self) -> list[str]:
        """The ids of all selected cells, each once, in the order of the groups."""
        return list(dict.fromkeys(cell.cell_id for group in self.groups for cell in group.cells))

    def states(self) -> dict[str, str]:
        """Return the state of every selected cell by its id."""
        return {cell.cell_id: state_of(self.index, cell) for group in self.groups for cell in group.cells}

    @cached_property
    def names(self) -> dict[str, str]:
        """Every cell by what differs between the chosen ones; a single one by its values in its experiment."""
        if len(self.groups) == 1 and self.groups[0].manifest:
            return names_in(self.groups[0])
        values_of: dict[str, dict[str, Scalar]] = {}
        for group in self.groups:
            for cell in group.cells:
                values_of.setdefault(cell.cell_id, self._values(cell, group.manifest))
        varying = _varying(list(values_of.values())) or NAMING
        return {
            cell_id: label({path: values.get(path) for path in varying}, varying)
            for cell_id, values in values_of.items()
        }

    def _values(self, cell: Expected, manifest: Manifest | None) -> dict[str, Scalar]:
        own = self.index[cell.cell_id].own_parameters()
        read = _reader(cell, manifest, self.index)
        return {path: read(path) for path in [*paths(Cell), *cell.axes, *(OWN + name for name in own)]}


def names_in(group: Group) -> dict[str, str]:
    """The cells of an experiment by their axes."""
    assert group.manifest
    varying = _varying([cell.axes for cell in group.cells]) or group.manifest.varying or NAMING
    fixed = {path: value_at(group.manifest.settings, path) for path in varying}
    return {cell.cell_id: label({**fixed, **cell.axes}, varying) for cell in group.cells}


def state_of(index: Index, cell: Expected) -> str:
    """Return the state of an expected cell; finished with other versions of its components, it is stale."""
    return index.state_of(cell.cell_id, cell.versionless_id)


def select(words: Sequence[str], results: Path, index: Index) -> Selection:
    """Return the cells that the words of a command line name, or all cells if there are no words.

    Raises:
        UserError: there is no such experiment, cell or field, or no cell fulfils the filters.
    """
    scales = [word for word in words if word.startswith("scale=") and not _is_experiment(word, results)]
    conditions = [word for word in words if _is_filter(word, results)]
    named = [word for word in words if word not in scales and word not in conditions]
    groups, damaged = (_named(named, scales, results, index), {}) if named else _everything(results, index)
    if conditions:
        groups = _filtered(groups, _parsed(" ".join(conditions), groups, index), index)
    return Selection(groups, index, damaged)


def is_whole(words: Sequence[str], results: Path) -> bool:
    """Whether whole experiments are named, and no single cells."""
    return not any(_is_id(word) or _is_filter(word, results) for word in words)


def named_cells(words: Sequence[str], results: Path) -> tuple[Manifest | None, list[tuple[str, Record]]]:
    """Return the chosen cells with their names, and the manifest if a single experiment was named.

    Damaged cells are named on standard error, and left out.

    Raises:
        UserError: as ``select`` does.
    """
    index = Index(results / "runs")
    selection = select(words, results, index)
    index.remember()
    whole = len(selection.groups) == 1 and not any(map(_is_id, words))
    manifest = selection.groups[0].manifest if whole else None
    cells = [(selection.names[cell_id], index.record(cell_id)) for cell_id in selection.cell_ids]
    return manifest, [(name, record) for name, record in cells if not _left_out(name, record)]


def _left_out(name: str, record: Record) -> bool:
    """Say that a damaged cell is left out, if it is damaged: it is no reason not to do the others."""
    damaged = record.damage()
    if damaged:
        again = "" if isinstance(damaged, UnreadableFile) else "; the same harness sweep again computes it again"
        print(f"left out: {name} ({record.cell_id}): {damaged.sentence}{again}", file=sys.stderr)
    return damaged is not None


def manifest_name(experiment: str, overrides: Sequence[str]) -> str:
    """``<experiment>.<scale>`` of a file (at its default scale, or at ``scale=...``) or of such a name itself.

    Raises:
        UserError: the file does not exist, or an override is not a scale: a report is about what was swept.
    """
    scale = ""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key != "scale":
            raise UserError(
                f"'{override}' cannot be overridden here: this verb reads what was swept",
                where="command line",
                allowed="scale=NAME",
            )
        scale = value
    path = Path(experiment)
    if path.suffix not in (".yaml", ".yml"):
        return f"{experiment}.{scale}" if scale else experiment
    declared = {key.value: value.value for key, value in safe_yaml.read(path).value}
    return f"{path.stem}.{scale or declared.get('scale', '')}"


def record_of(beginning: str, results: Path) -> Record:
    """Return the only record whose cell id begins with these digits.

    Raises:
        UserError: there is none, or there are several, or these are too few digits.
    """
    folders = sorted((results / "runs").glob(f"{beginning}*")) if _is_id(beginning) else []
    if len(folders) != 1:
        ids = f": {', '.join(path.name for path in folders)}" if folders else ""
        raise UserError(
            f"{len(folders) or 'no'} cells begin with '{beginning}'{ids}",
            where=str(results / "runs"),
            allowed="6 to 12 hex digits of one cell's id; results/<experiment>.<scale>.csv lists them",
        )
    return Record(folders[0])


def _is_id(word: str) -> bool:
    return bool(CELL_ID.fullmatch(word))


def _is_filter(word: str, results: Path) -> bool:
    return filters.is_filter(word) and not word.startswith("scale=") and not _is_experiment(word, results)


def _is_experiment(word: str, results: Path) -> bool:
    """Whether a word names an experiment although it may look like a filter: a file's name may hold ``=``."""
    return word.endswith((".yaml", ".yml")) or word in {path.stem for path in (results / "manifests").glob("*=*.json")}


def _named(words: Sequence[str], scales: Sequence[str], results: Path, index: Index) -> list[Group]:
    """Whole experiments, and single cells with those that they stand in."""
    ids = {record_of(word, results).cell_id for word in words if _is_id(word)}
    names = dict.fromkeys(manifest_name(word, scales) for word in words if not _is_id(word))
    whole = [Group(manifest, manifest.cells) for manifest in (Manifest.read(results, name) for name in names)]
    others = [group for group in _everything(results, index)[0] if group.name not in names] if ids else []
    parts = [replace(group, cells=[cell for cell in group.cells if cell.cell_id in ids]) for group in others]
    return [*whole, *(group for group in parts if group.cells)]


def _everything(results: Path, index: Index) -> tuple[list[Group], dict[str, UserError]]:
    """What was declared, and what was begun and stands in no manifest; and which manifests cannot be read."""
    manifests, damaged = Manifest.all_of(results)
    groups = [Group(manifest, manifest.cells) for manifest in manifests]
    declared = {cell.cell_id for group in groups for cell in group.cells}
    others = [Expected(cell_id, {}) for cell_id in index.cell_ids() if cell_id not in declared]
    return [*groups, *([Group(None, others)] if others else [])], damaged


def _parsed(text: str, groups: Sequence[Group], index: Index) -> Filter:
    cells = [cell.cell_id for group in groups for cell in group.cells]
    own = {name for cell_id in cells for name in index[cell_id].own_parameters()}

    def resolve(name: str) -> str:
        bare = name.removeprefix("loss.").removeprefix("own.")
        if name in (STATE, COLLAPSED):
            return name
        try:
            return OWN + bare if bare in own else field_path(name)
        except UserError as error:
            error.allowed = f"scale=NAME, {STATE}, {COLLAPSED}, {error.allowed}"
            raise

    with located(lambda key: "command line"):
        return filters.parse(text, resolve)


def _filtered(groups: Sequence[Group], only: Filter, index: Index) -> list[Group]:
    """Return the groups with only those cells that match the filter."""
    chosen = []
    for group in groups:
        cells = [cell for cell in group.cells if only.matches(_reader(cell, group.manifest, index))]
        if cells:
            chosen.append(replace(group, cells=cells))
    if not chosen:
        raise UserError(
            f"no cell is {only.text}",
            where="command line",
            allowed="; ".join(f"{short_name(path)}: {_values(path, groups, index)}" for path in sorted(only.paths)),
            next_command=command("status", [], index.runs.parent),
        )
    return chosen


def _reader(cell: Expected, manifest: Manifest | None, index: Index) -> Callable[[str], Scalar]:
    """A cell's value at a path: where it was never begun, as it was declared."""

    def value(path: str) -> Scalar:
        if path == STATE:
            return state_of(index, cell)
        if path == COLLAPSED:
            return bool(index[cell.cell_id].collapse)
        if path in cell.axes:
            return cell.axes[path]
        summary = index[cell.cell_id]
        return summary.value(path) if summary.cell or not manifest else value_at(manifest.settings, path)

    return value


def _values(path: str, groups: Sequence[Group], index: Index) -> str:
    """List the values that the cells have at a path."""
    values = {_reader(cell, group.manifest, index)(path) for group in groups for cell in group.cells} - {None}
    ordered = sorted(values, key=lambda value: (isinstance(value, str), value))
    more = f" and {len(ordered) - MOST_VALUES} more" if len(ordered) > MOST_VALUES else ""
    return ", ".join(str(value) for value in ordered[:MOST_VALUES]) + more if ordered else "no values"


def _varying(cells: Sequence[Mapping[str, Scalar]]) -> list[str]:
    """Return the paths at which these cells differ."""
    values_at = defaultdict(set)
    for cell in cells:
        for path, value in cell.items():
            values_at[path].add(value)
    return [path for path, values in values_at.items() if len(values) > 1]
