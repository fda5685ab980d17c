"""What is there, what is missing, and what it would cost. Pure but for reading records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cell import Cell
from harness.dataset_files import DatasetFiles
from harness.record import Record
from harness.sweep.check import bank_count, train_count
from harness.sweep.cost import Measured, step_key


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

    def evaluated_otherwise(self, evaluation: Mapping[str, Any]) -> list[Entry]:
        """Finished cells without numbers under these settings: those that they have would not be comparable."""
        finished = [entry for entry in self.entries if entry.state == "finished"]
        return [entry for entry in finished if entry.record.metrics(evaluation) is None]


def make_plan(cells: Sequence[tuple[Cell, dict[str, Any]]], runs: Path) -> Plan:
    """The states of all cells."""
    return Plan([Entry(cell, axes, record := Record(runs / cell.cell_id), record.state()) for cell, axes in cells])


def seconds_of(
    cell: Cell, files: DatasetFiles, evaluation: Mapping[str, Any], measured: Mapping[str, Measured], device: str
) -> float:
    """Estimated seconds of one cell: steps, plus features of all images twice and of the curve's at each point.

    The linear probe on augmented images (sgd) takes the features of the bank anew in each of its epochs.
    """
    cost = measured[step_key(cell, files, device)]
    train = train_count(cell, files)
    points = 1 + cell.epochs // int(evaluation["every"])
    bank = bank_count(cell, files)
    curve = points * (min(bank, int(evaluation["curve_bank"])) + files.labelled - bank)
    passes = 1 + (int(evaluation["linear_epochs"]) if evaluation["linear"] == "sgd" else 0)
    features = 2 * (passes * bank + files.test) + curve
    return (
        cost.start + cell.epochs * (train // cell.batch_size) * cell.batch_size * cost.sample + features * cost.feature
    )
