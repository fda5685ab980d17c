"""Load an experiment from the words of a command line: compose it, check it, and find its data set."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness import datasets, json_process
from harness.cli.shared.arguments import command
from harness.datasets import DatasetFiles, DatasetMissing, FixedDataset
from harness.environment.revision import revision
from harness.errors import UserError, located
from harness.manifest import Manifest
from harness.plugins import register
from harness.store.index import Index
from harness.study.claims.validate import check_claims
from harness.sweep.declare import evaluation_presets
from harness.sweep.declare.compose import Declaration, declare, stand_ins
from harness.sweep.expand import grid, unused_overrides
from harness.sweep.launch import Declared, slots_of
from harness.sweep.plan.plan import (
    Entry,
    Plan,
    make_plan,
)


def load(
    path: str, overrides: Sequence[str], results: Path, *, plugins: Sequence[Path] = (), may_download: bool = False
) -> Declared:
    """Compose and check everything; ``plugins``: files of users' own losses.

    Raises:
        UserError: anything that is not allowed, before anything runs.
    """
    register(plugins)
    declaration = declare(Path(path), overrides)
    for file in stand_ins(declaration.path):
        print(f"note: {file} hides the file of that name which harness brings")
    unused_overrides.refuse(declaration)
    files = _find(declaration, may_download)
    for note in files.notes:
        print(f"note: {note}")
    declared = _declared(declaration, files, results, plugins)
    unused_overrides.refuse_of_resources(declaration, declared.expansion)
    for note in unused_overrides.notes(declaration, declared.expansion):
        print(f"note: {note}")
    return declared


def _find(declaration: Declaration, may_download: bool) -> DatasetFiles:
    declared = declaration.experiment.dataset
    dataset = datasets.named(declared.name, declaration.locator.where("dataset.name"))
    try:
        return dataset.find(declared.root)
    except DatasetMissing:
        if not (may_download and isinstance(dataset, FixedDataset) and dataset.torchvision_class):
            raise
    _download(declared.name, declared.root or "data")
    return dataset.find(declared.root)


def other_scale(path: str, scale: str, results: Path, plugins: Sequence[Path]) -> Declared | None:
    """Another scale of the same file, for its cost; its data set need not be here if the catalogue knows its size."""
    declaration = declare(Path(path), [f"scale={scale}"])
    dataset = datasets.DATASETS.get(declaration.experiment.dataset.name)
    return _declared(declaration, dataset.files(), results, plugins) if isinstance(dataset, FixedDataset) else None


def _declared(declaration: Declaration, files: DatasetFiles, results: Path, plugins: Sequence[Path]) -> Declared:
    expansion = grid.expand(declaration, files)
    with located(declaration.locator.where):
        check_claims(declaration.claims)
        slots = slots_of(declaration, expansion)
    manifest = grid.manifest(declaration, files, expansion, revision().revision)
    own = [str(file.resolve()) for file in plugins]
    plan = make_plan(expansion.cells, Index(results / "runs"))
    _refuse_other_evaluations(plan, declaration, results)
    return Declared(declaration, files, expansion, manifest, plan, slots, own)


def _refuse_other_evaluations(plan: Plan, declaration: Declaration, results: Path) -> None:
    entries = plan.evaluated_otherwise(declaration.evaluation)
    if not entries:
        return
    declared, outcome = declaration.evaluation.final(), plan.index[entries[0].cell.cell_id].outcome
    used = outcome.evaluation.final() if outcome and outcome.evaluation else {}
    name = next(name for name in {**declared, **used} if declared.get(name) != used.get(name))
    preset = evaluation_presets.named(declaration.evaluation)
    add = f"{command('evaluate', [*_holding(entries, results), '--preset', preset], results)}, or " if preset else ""
    raise UserError(
        f"finished cells were evaluated with {name} = {used.get(name)}, declared is {declared.get(name)}",
        where=f"evaluate.{name} ({entries[0].record.path})",
        allowed="one evaluation for all cells of an experiment",
        next_command=f"{add}evaluate.{name}={used.get(name)}, or --results OTHER_FOLDER",
    )


def _holding(entries: Sequence[Entry], results: Path) -> list[str]:
    """What ``harness evaluate`` takes: a manifest that expects these cells, or else their ids."""
    wanted = {entry.cell.cell_id for entry in entries}
    for manifest in Manifest.all_of(results)[0]:
        if wanted <= {cell.cell_id for cell in manifest.cells}:
            return [manifest.name]
    return sorted(wanted)


def _download(name: str, folder: str) -> None:
    print(f"{name} is not on this machine: downloading it to {folder}/ through torchvision", flush=True)
    Path(folder).mkdir(parents=True, exist_ok=True)
    subprocess.run(json_process.command("harness.ssl.data.download", name, folder), check=False)
