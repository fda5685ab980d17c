"""An evaluation beside the declared one: ``--preset``, ``--dataset`` and ``--root``, and the manifest under it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from harness.cell import Dataset
from harness.cli.shared.completion import datasets, presets
from harness.cli.shared.selection import manifest_name
from harness.errors import UserError
from harness.evaluation import Evaluation
from harness.manifest import Manifest
from harness.store.record import Record
from harness.sweep.declare import evaluation_presets
from harness.sweep.run.reevaluate import OtherDataset

Preset = Annotated[
    str, typer.Option(help="A named evaluation, such as dkobak.", show_default=False, autocompletion=presets)
]
OnDataset = Annotated[
    str, typer.Option(help="Another data set to evaluate on.", show_default=False, autocompletion=datasets)
]
Root = Annotated[str, typer.Option(help="The folder that this data set lies in.", show_default=False)]


@dataclass(frozen=True)
class ExtraEvaluation:
    """The evaluation that was asked for: ``other`` is another data set than the cells' own."""

    preset: str
    evaluation: Evaluation
    other: OtherDataset | None
    root: str

    def on(self, own: Dataset) -> Dataset | None:
        """Return the other data set for cells trained on ``own``; None where they are evaluated on their own."""
        return self.other.like(own) if self.other else None

    def metrics(self, record: Record) -> dict[str, float] | None:
        """Return what this evaluation found for the record's encoder; None where it has not been made."""
        return record.metrics(self.evaluation, self.on(record.cell().dataset))

    def of(self, manifest: Manifest) -> Manifest:
        """Return the manifest of the same cells, evaluated in this way."""
        return manifest.evaluated(self.preset, self.evaluation, self.on(manifest.own_dataset))

    def options(self) -> list[str]:
        """Return the options of the command line that ask for this evaluation."""
        named = {"--preset": self.preset, "--dataset": self.other and self.other.name, "--root": self.root}
        return [word for option, value in named.items() if value for word in (option, value)]


def requested_evaluation(preset: str, dataset: str, root: str) -> ExtraEvaluation:
    """Return the evaluation that the options name.

    Raises:
        UserError: there is no such preset, or the data set is not on this machine.
    """
    return ExtraEvaluation(
        preset, evaluation_presets.load(preset), OtherDataset.find(dataset, root or None) if dataset else None, root
    )


def reported(
    experiment: str, overrides: list[str] | None, results: Path, preset: str, dataset: str, root: str
) -> tuple[Manifest, Manifest, ExtraEvaluation | None]:
    """The manifest as it was swept, and under the evaluation that was asked for.

    Raises:
        UserError: it was never swept, or the evaluation has no name.
    """
    swept = Manifest.read(results, manifest_name(experiment, overrides or []))
    if dataset and not preset:
        raise UserError("an added evaluation is found by its preset", where="--dataset", allowed="--preset NAME")
    added = requested_evaluation(preset, dataset, root) if preset else None
    return swept, added.of(swept) if added else swept, added
