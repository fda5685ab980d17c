"""The cells of a declaration: every point of its grids, without the excluded and with the included ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from harness.cell import OWN, Cell, get, paths, short_name, versionless_id
from harness.datasets import DatasetFiles
from harness.errors import UserError, below, located
from harness.filters import Filter
from harness.manifest import Exclusion, Expected, Manifest
from harness.sweep.declare.compose import Declaration
from harness.sweep.declare.fields import check_own, read_filter
from harness.sweep.declare.limits import check_range, check_value
from harness.sweep.expand.axes import MOST_POINTS, Grid, Point, derived_paths, grids, included
from harness.sweep.expand.cell_builder import Builder
from harness.sweep.expand.derived_fields import Derived, check_budget, derived_fields
from harness.sweep.expand.image_counts import train_images
from harness.sweep.expand.resources import resources
from harness.sweep.expand.validate import check_evaluation, check_parts, check_sizes, check_world
from harness.trees import Scalar, Tree, nested, scalars


@dataclass(frozen=True)
class Expansion:
    """The cells, each with its value on every axis; ``shared_between_grids``: the grids of cells in several."""

    cells: list[tuple[Cell, Point]]
    exclusions: list[Exclusion]
    shared_between_grids: dict[str, tuple[str, ...]]

    def notes(self) -> list[str]:
        """Explain why there are fewer cells than the grids have points."""
        shared = Counter(self.shared_between_grids.values())
        twice = [
            f"{count} cell{' stands' if count == 1 else 's stand'} in {len(names)} grids ({', '.join(names)}) "
            f"and {'is' if count == 1 else 'are'} trained once"
            for names, count in shared.items()
        ]
        left_out = [
            f"{item.cells} cell{' is' if item.cells == 1 else 's are'} excluded, {item.where}: {item.reason}"
            for item in self.exclusions
        ]
        return twice + left_out


def expand(declaration: Declaration, files: DatasetFiles) -> Expansion:
    """Return every cell, the last axis varying fastest, all checked; a cell of several grids is listed once.

    Raises:
        UserError: a cell cannot run, an exclusion matches no cell, or there are too many points.
    """
    with located(declaration.locator.where):
        return _expand(declaration, files)


def _expand(declaration: Declaration, files: DatasetFiles) -> Expansion:
    declared = scalars(_settings(declaration, files))
    _check_settings(declaration, declared)
    crossed = grids(declaration)
    every = [*crossed, *included(declaration, crossed, declared)]
    check_budget(declaration, every)
    rules = derived_fields(declaration, every)
    _refuse_too_many(declaration, every, declared)

    builder = Builder(declared, rules, train_images(declaration.experiment.dataset.validation, files))
    check = _Check(declaration, files)
    exclusions = _exclusions(declaration)
    cells: dict[str, Cell] = {}
    grids_of: dict[str, tuple[str, ...]] = {}
    for index, grid in enumerate(every):
        can_exclude = exclusions if index < len(crossed) else []  # cells of ``include`` are not excluded
        with _declared_keys(declaration, grid, rules):
            for point in grid.points(declared):
                cell = builder.cell(point)
                if can_exclude and _excluded(cell, can_exclude):
                    continue
                check(cell)
                before = grids_of.get(cell.cell_id, ())
                if grid.name in before:
                    raise _twice(grid, point, cell)
                grids_of[cell.cell_id] = (*before, grid.name)
                cells.setdefault(cell.cell_id, cell)
    _refuse_unmatched(exclusions)
    if not cells:
        raise UserError("every cell is excluded", key="exclude", allowed="fewer exclusions")
    axes = list(dict.fromkeys(path for grid in every for path in grid.keys))
    return Expansion(
        [(cell, {path: get(cell, path) for path in axes}) for cell in cells.values()],
        [Exclusion(item.only.text, item.reason, len(item.cells)) for item in exclusions],
        {cell_id: names for cell_id, names in grids_of.items() if len(names) > 1},
    )


def _settings(declaration: Declaration, files: DatasetFiles) -> Tree:
    """Return the values of a Cell's fields, with the fingerprint of the data set."""
    return nested({**declaration.settings, "dataset.fingerprint": files.fingerprint})


def _check_settings(declaration: Declaration, declared: Mapping[str, Scalar]) -> None:
    for group in ("evaluate", "cluster", "failures", "budget"):
        for name, value in vars(getattr(declaration.experiment, group)).items():
            if value is not None:
                with below(f"{group}.{name}"):
                    check_range(f"{group}.{name}", value)
    for path, value in declared.items():
        if path in paths(Cell) and value is not None:
            with below(path.removesuffix(".name")):
                check_value(path, value)
    for path in declared:
        if path.startswith(OWN):
            with below(path):
                check_own(path.removeprefix(OWN))


def _refuse_too_many(declaration: Declaration, every: Sequence[Grid], declared: Mapping[str, Scalar]) -> None:
    """Count the points before a cell is made, because too many would fill the memory before the mistake is noticed."""
    count = sum(grid.count(declared, MOST_POINTS + 1) for grid in every)
    if count > MOST_POINTS:
        key = "grids" if declaration.experiment.grids else "axes"
        what = f"the axes have {count:,} points"
        raise UserError(what, key=key, allowed=f"at most {MOST_POINTS:,}")


@contextmanager
def _declared_keys(declaration: Declaration, grid: Grid, rules: Sequence[Derived]) -> Iterator[None]:
    """Replace the field in an error by the key that declares it, such as ``optimizer.lr`` by ``axes.lr``."""
    keys = {name: f"budget.{name}" for name in declaration.budget} | grid.keys
    keys |= {rule.path: rule.key for rule in rules}
    if declaration.experiment.resources:
        keys |= {"cluster.gpus": "resources", "cluster.micro_batch": "resources"}
    try:
        yield
    except UserError as error:
        error.key = keys.get(error.key, error.key)
        raise


def _twice(grid: Grid, point: Point, cell: Cell) -> UserError:
    """Return the error for two points of a grid that give one cell, because its loss or method ignores an axis."""
    ignored = next(path for path, value in point.items() if get(cell, path) != value and len(grid.values(path)) > 1)
    owner = cell.method if ignored.startswith("method.") else cell.loss
    name, axis = short_name(ignored), "method" if owner is cell.method else "loss"
    return UserError(
        f"{owner.name} has no {name}: two points of the grid are one cell",
        key=ignored,
        allowed=f"one value, or grids: of those that have it, or when: {{{name}: {axis}=NAME}}",
    )


class _Check:
    """Checks cells; parts that were checked in an earlier cell are not checked again."""

    def __init__(self, declaration: Declaration, files: DatasetFiles) -> None:
        self._declaration, self._files = declaration, files
        self._resources = resources(declaration)
        self._lr_is_derived = "optimizer.lr" in derived_paths(declaration)
        self._checked: set[tuple[int | None, ...]] = set()

    def __call__(self, cell: Cell) -> None:
        resources = self._resources(cell)
        ranks, micro_batch = resources.world_size, resources.micro_batch_of(cell)
        # The builder keeps the components, so that their ids stay valid.
        parts = (id(cell.method), id(cell.loss), id(cell.backbone), cell.bn_passes)
        if parts not in self._checked:
            check_parts(cell, self._files)
            check_evaluation(self._declaration.evaluation, cell, self._files)
            self._checked.add(parts)
        sizes = (id(cell.optimizer), cell.batch_size, cell.bn_groups, cell.epochs, cell.steps, ranks, micro_batch)
        if sizes not in self._checked:
            check_sizes(cell, self._files)
            check_world(cell, ranks, micro_batch)
            self._refuse_scaling_twice(cell)
            self._checked.add(sizes)

    def _refuse_scaling_twice(self, cell: Cell) -> None:
        if self._lr_is_derived and cell.optimizer.lr_rule != "constant":
            what = f"lr is derived, and lr_rule {cell.optimizer.lr_rule} would scale it again"
            raise UserError(what, key="optimizer.lr", allowed="optimizer.lr_rule: constant")


@dataclass
class _Exclusion:
    """An entry of ``exclude``; ``cells``: the ids that it is the first to exclude; ``idle``: it has matched no cell."""

    only: Filter
    reason: str
    key: str
    cells: set[str] = field(default_factory=set)
    idle: bool = True


def _exclusions(declaration: Declaration) -> list[_Exclusion]:
    exclusions = []
    for index, node in enumerate(declaration.experiment.exclude):
        key = f"exclude[{index}]"
        example = "exclude: [{where: loss=dcl batch_size<=64, reason: diverges}]"
        if not isinstance(node, Mapping) or set(node) != {"where", "reason"}:
            raise UserError("an exclusion has 'where' and 'reason'", key=key, allowed=example)
        if not isinstance(node["reason"], str) or not node["reason"].strip():
            raise UserError("an exclusion needs a reason", key=key, allowed=example)
        with below(f"{key}.where"):
            only = read_filter(node["where"])
        exclusions.append(_Exclusion(only, node["reason"].strip(), key))
    return exclusions


def _excluded(cell: Cell, exclusions: Sequence[_Exclusion]) -> bool:
    matching = [exclusion for exclusion in exclusions if exclusion.only.matches(partial(get, cell))]
    for exclusion in matching:
        exclusion.idle = False
    if matching:
        matching[0].cells.add(cell.cell_id)
    return bool(matching)


def _refuse_unmatched(exclusions: Sequence[_Exclusion]) -> None:
    """Refuse an exclusion without a cell: it has a typo, or an axis has changed since it was written."""
    for exclusion in exclusions:
        if exclusion.idle:
            what = f"no cell has {exclusion.only.text}: nothing is excluded"
            raise UserError(what, key=exclusion.key, allowed="a filter that matches, or exclude=[]")


def _settled(declaration: Declaration, files: DatasetFiles, cells: Sequence[Cell]) -> Tree:
    """Return the settings with the derived fields, which are None if they differ between cells."""
    derived: dict[str, Scalar] = {}
    for path in derived_paths(declaration) | ({"epochs"} if any(cell.steps for cell in cells) else set()):
        values = {get(cell, path) for cell in cells}
        derived[path] = values.pop() if len(values) == 1 else None
    return nested({**_settings(declaration, files), **derived})


def manifest(declaration: Declaration, files: DatasetFiles, expansion: Expansion, revision: str) -> Manifest:
    """Return the manifest, which tells the study what to expect."""
    experiment, cells = declaration.experiment, expansion.cells
    axes = {path: list(dict.fromkeys(point[path] for _, point in cells)) for path in cells[0][1]}
    return Manifest(
        experiment=declaration.name,
        scale=declaration.scale,
        title=experiment.title or declaration.name,
        question=experiment.question,
        caveat=experiment.caveat,
        comparable=experiment.comparable,
        dataset=experiment.dataset.title or experiment.dataset.name,
        axes=axes,
        cells=[Expected(cell.cell_id, point, versionless_id(cell)) for cell, point in cells],
        claims=declaration.claims,
        evaluation=declaration.evaluation,
        settings=_settled(declaration, files, [cell for cell, _ in cells]),
        overrides=declaration.overrides,
        revision=revision,
        exclusions=expansion.exclusions,
        coinciding=len(expansion.shared_between_grids),
    )
