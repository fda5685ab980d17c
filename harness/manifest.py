"""CONTRACT 3. A Manifest is what an experiment at a scale expects: cells, axes, exclusions, claims, report.

Written by ``sweep`` before anything runs, read by ``study``: a cell that never ran is visible as missing, and the
family of claims is fixed before the results are seen.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.cell import Cell, Dataset, from_dict, short_name
from harness.errors import DamagedFile, UserError
from harness.evaluation import Evaluation
from harness.files import Json, read_as, write_json
from harness.trees import Scalar, Tree

#: What to type where a file lies in the place of a folder of the results.
SET_ASIDE = "harness fsck --set-aside, and the same harness sweep again"
#: The key of ``Expected.versionless_id`` in a manifest's file.
VERSIONLESS_KEY = "kin"


def label(values: Mapping[str, Scalar], paths: Sequence[str]) -> str:
    """Return the name of a cell, or of an arm, by its values at these paths: ``loss=dcl batch_size=32 seed=0``."""
    return " ".join(f"{short_name(path)}={'–' if values[path] is None else values[path]}" for path in paths)


@dataclass(frozen=True)
class Claim:
    """A checkable sentence of a paper.

    ``measure`` names what is computed of the ``arms`` (``harness.study.claims.measures``), each a filter such as
    ``loss=dcl``; ``over``: the axis along which; ``at``: a filter of the cells that count; ``margin``: in points of
    ``metric`` (of ``ratio``: a factor); None where the measure has one of its own. ``comparable``: a filter that the
    cells must meet for the claim to be about them. ``published``: numbers of ``harness/study/papers`` that it rests
    on; ``paper``: a file of them.
    """

    name: str
    says: str
    source: str
    measure: str
    arms: list[str]
    over: str = ""
    at: str = ""
    margin: float | None = None
    metric: str = "test_knn"
    comparable: str = ""
    paper: str = ""
    published: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Expected:
    """One expected cell: its identity, its value on every axis, and its identity without versions of components."""

    cell_id: str
    axes: Mapping[str, Scalar]
    versionless_id: str = ""

    def to_json(self) -> Tree:
        """Return the cell as the manifest's file has it."""
        return {"cell_id": self.cell_id, "axes": self.axes, VERSIONLESS_KEY: self.versionless_id}

    @classmethod
    def from_json(cls, content: Tree) -> Expected:
        """Return the cell that a manifest lists; an unknown key is a TypeError."""
        names = {VERSIONLESS_KEY: "versionless_id"}
        return from_dict(cls, {names.get(key, key): value for key, value in content.items()})


@dataclass(frozen=True)
class Exclusion:
    """Cells that the grids hold and the experiment leaves out: which, why, and how many."""

    where: str
    reason: str
    cells: int


@dataclass(frozen=True)
class Manifest:
    """What an experiment at a scale expects.

    ``axes`` maps each axis (a dotted field of Cell) to its values, in declared order.

    ``settings``: the values of a Cell's fields that are on no axis, None for a field that follows from others and
    differs between cells. ``coinciding``: how many cells stand in several grids.

    ``caveat``: what this scale cannot say, printed with the answer; ``comparable``: whether its claims are decided.
    ``preset``, ``on``: of an evaluation that was added to the finished cells, and its data set where that is another
    one. What a sweep writes has neither.
    """

    experiment: str
    scale: str
    title: str
    question: str
    caveat: str
    comparable: bool
    dataset: str
    axes: Mapping[str, list[Scalar]]
    cells: list[Expected]
    claims: list[Claim]
    evaluation: Evaluation
    settings: Tree
    overrides: list[str]
    revision: str
    preset: str = ""
    on: Dataset | None = None
    exclusions: list[Exclusion] = field(default_factory=list)
    coinciding: int = 0

    @property
    def name(self) -> str:
        """``<experiment>.<scale>``, and of an added evaluation ``.<preset>`` and ``.<data set>``."""
        added = [self.preset, self.on.name if self.on else ""]
        return ".".join([self.experiment, self.scale, *filter(None, added)])

    @functools.cached_property
    def common(self) -> Cell:
        """The ``settings`` as a Cell. A field that is on an axis means nothing here; one that follows from others and
        differs between cells is None, whatever its type."""
        return from_dict(Cell, self.settings)

    @property
    def own_dataset(self) -> Dataset:
        """The data set that the cells are trained on."""
        return self.common.dataset

    def evaluated(self, preset: str, evaluation: Evaluation, on: Dataset | None) -> Manifest:
        """Return the manifest of the same cells under an added evaluation."""
        other = on if on != self.own_dataset else None
        return dataclasses.replace(self, evaluation=evaluation, preset=preset, on=other)

    @property
    def varying(self) -> list[str]:
        """The axes with more than one value, by which cells differ."""
        return [path for path, values in self.axes.items() if len(values) > 1]

    def write(self, results: Path) -> Path:
        """Write the manifest as what the experiment expects from now on, and return its path."""
        path = self.file(results, self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.save(path)
        return path

    @staticmethod
    def file(results: Path, name: str) -> Path:
        """Return where the manifest of an experiment at a scale lies; ``name`` is both, joined by a dot."""
        return results / "manifests" / f"{name}.json"

    def save(self, path: Path) -> None:
        """Write the manifest into the file, whole or not at all."""
        without_cells = dataclasses.asdict(dataclasses.replace(self, cells=[]))  # it copies what is in them
        write_json(path, {**without_cells, "cells": [cell.to_json() for cell in self.cells]})

    @classmethod
    def read(cls, results: Path, name: str) -> Manifest:
        """Return the manifest of ``<experiment>.<scale>``.

        Raises:
            UserError: there is none, because the experiment was never swept at this scale; or it is damaged.
        """
        path = cls.file(results, name)
        if not path.exists():
            known = sorted(path.stem for path in (results / "manifests").glob("*.json"))
            raise UserError(
                f"no manifest of '{name}'",
                where=str(results / "manifests"),
                allowed=", ".join(known) or "none yet",
                next_command=f"harness sweep experiments/{name.rsplit('.', 1)[0]}.yaml",
            )
        return cls.load(path)

    @classmethod
    def all_of(cls, results: Path) -> tuple[list[Manifest], dict[str, UserError]]:
        """Return every manifest in this folder; and, by name, what is wrong with those that cannot be read, so that one
        damaged file does not hide the others. Where their folder is none, its name stands for all of them."""
        readable: list[Manifest] = []
        damaged: dict[str, UserError] = {}
        folder = results / "manifests"
        if folder.exists() and not folder.is_dir():
            damaged[folder.name] = DamagedFile(folder, "it is no folder", next_command=SET_ASIDE)
        for path in sorted((results / "manifests").glob("*.json")):
            try:
                readable.append(cls.load(path))
            except UserError as error:
                damaged[path.stem] = error
        return readable, damaged

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a manifest.

        Raises:
            DamagedFile: it is damaged, or of another version of harness.
        """

        def build(data: Json) -> Manifest:
            cells = [Expected.from_json(item) for item in data.pop("cells")]
            claims = [from_dict(Claim, item) for item in data.pop("claims")]
            exclusions = [from_dict(Exclusion, item) for item in data.pop("exclusions", [])]
            evaluation = Evaluation.from_json(data.pop("evaluation"))
            from_dict(Cell, data["settings"])  # as ``common`` does, where a field of another version would end the verb
            return cls(cells=cells, claims=claims, exclusions=exclusions, evaluation=evaluation, **data)

        try:
            manifest = read_as(path, build)
        except DamagedFile as damaged:
            raise _damaged(path) from damaged
        if manifest is None:
            raise _damaged(path)
        return manifest


def _damaged(path: Path) -> DamagedFile:
    what = "the manifest is damaged, or of another version of harness"
    again = "the same harness sweep again: it writes the manifest anew and runs only what is missing"
    return DamagedFile(path, next_command=again, what=what)
