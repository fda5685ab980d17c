"""What is there, what is missing, and what it would cost. Pure but for reading records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cell import Cell
from harness.dataset_files import DatasetFiles
from harness.errors import UserError
from harness.record import Record
from harness.sweep.check import bank_count, train_count
from harness.sweep.cost import Measured, step_key

#: Evaluation settings that change the final numbers; the others only shape the learning curve.
FINAL_SETTINGS = ("knn_k", "knn_temperature", "penalty")


@dataclass(frozen=True)
class Entry:
    """One cell of the plan: its value on every axis and its state."""

    cell: Cell
    axes: Mapping[str, Any]
    record: Record
    state: str


@dataclass(frozen=True)
class Plan:
    entries: list[Entry]

    def counts(self) -> Counter[str]:
        return Counter(entry.state for entry in self.entries)

    def to_run(self) -> list[Entry]:
        """What a sweep runs: cells that are missing or failed."""
        return [entry for entry in self.entries if entry.state in ("missing", "failed")]


def make_plan(cells: Sequence[tuple[Cell, dict[str, Any]]], runs: Path, evaluation: Mapping[str, Any]) -> Plan:
    """The states of all cells.

    Raises:
        UserError: finished cells were evaluated with other settings, so that their numbers would not be comparable.
    """
    plan = Plan([Entry(cell, axes, record := Record(runs / cell.cell_id), record.state()) for cell, axes in cells])
    for entry in plan.entries:
        if entry.state != "finished":
            continue
        used = (entry.record.outcome() or {}).get("evaluation", {})
        for name in FINAL_SETTINGS:
            if used.get(name) != evaluation[name]:
                raise UserError(
                    f"finished cells were evaluated with {name} = {used.get(name)}, declared is {evaluation[name]}",
                    where=f"evaluate.{name} ({entry.record.path})",
                    allowed="one evaluation for all cells of an experiment",
                    next_command=f"evaluate.{name}={used.get(name)}, or --results OTHER_FOLDER",
                )
    return plan


def seconds_of(
    cell: Cell, files: DatasetFiles, evaluation: Mapping[str, Any], measured: Mapping[str, Measured]
) -> float:
    """Estimated seconds of one cell: steps, plus features of all images twice and of the curve's at each point."""
    cost = measured[step_key(cell, files)]
    train = train_count(cell, files)
    points = 1 + cell.epochs // int(evaluation["every"])
    bank = bank_count(cell, files)
    curve = points * (min(bank, int(evaluation["curve_bank"])) + files.labelled - bank)
    features = 2 * (bank + files.test) + curve
    return cost.start + cell.epochs * (train // cell.batch_size) * cost.step + features * cost.feature
