"""From the command line to checked cells, their plan, and what it would cost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import datasets, evaluation
from harness.cell import Cell
from harness.cli.shared.arguments import command
from harness.datasets import DatasetFiles, DatasetMissing, FixedDataset
from harness.environment.gpus import gpus, hardware
from harness.environment.memory import memory_bytes
from harness.environment.revision import revision
from harness.errors import UserError, located
from harness.manifest import Manifest
from harness.plugins import register
from harness.store.index import Index
from harness.study.claims.validate import check_claims
from harness.sweep.declare import evaluation_presets
from harness.sweep.declare.compose import Declaration, declare
from harness.sweep.expand import grid
from harness.sweep.expand.grid import Expansion
from harness.sweep.expand.resources import Resources, resources
from harness.sweep.plan.cost import measure
from harness.sweep.plan.plan import (
    CostEstimate,
    Entry,
    Plan,
    PlanEstimate,
    arm_id,
    estimate,
    estimate_cell,
    finished_seconds,
    make_plan,
    timing_key,
)
from harness.sweep.run.slots import Slots, divide


@dataclass(frozen=True)
class Declared:
    """An experiment at one scale, composed, checked and compared with the records."""

    declaration: Declaration
    files: DatasetFiles
    expansion: Expansion
    manifest: Manifest
    plan: Plan
    slots: Slots
    plugins: list[str]

    @property
    def resources(self) -> Callable[[Cell], Resources]:
        """Of each cell."""
        return resources(self.declaration)

    @property
    def on_cluster(self) -> bool:
        return self.declaration.cluster.scheduler != "none"

    def estimate(self, entries: Sequence[Entry]) -> PlanEstimate:
        """What these cells would take on this machine: by the finished seeds of their arms, else by measured steps.

        For a cluster without GPUs the steps are measured here all the same; for one with GPUs, where this machine has
        none, finished seeds are all there is.

        Raises:
            UserError: a step cannot be measured.
        """
        of, slots, evaluation = self.resources, self.slots, self.declaration.evaluation
        memory = self.declaration.cluster.memory if self.on_cluster else None

        if self.on_cluster and slots.device == "cuda" and not gpus():
            return estimate(entries, self._known_needs(), slots.count, 0)
        arms = {arm_id(entry.cell): entry.cell for entry in entries}
        cells = [(cell, of(cell)) for cell in arms.values()]
        costs = measure(cells, self.files, slots.threads, slots.device, self.plugins)
        finished = finished_seconds(self.plan.index, hardware(slots.device), slots.threads, self._compiled)

        def need_of(cell: Cell) -> CostEstimate:
            return estimate_cell(cell, of(cell), costs, finished, self.files, evaluation)

        limit = round(memory * 2**30) if memory else memory_bytes(slots.device)
        return estimate(entries, need_of, slots.count, limit)

    @property
    def _compiled(self) -> bool:
        return self.declaration.cluster.compile

    def _known_needs(self) -> Callable[[Cell], CostEstimate]:
        """Of arms that have finished seeds, on whatever hardware of the cluster."""
        finished = finished_seconds(self.plan.index, None, self.slots.threads, self._compiled)

        def need_of(cell: Cell) -> CostEstimate:
            given = self.resources(cell)
            seconds = finished.get(timing_key(cell, given))
            if seconds is None:
                raise UserError("there is no GPU here to measure a step, and no seed of some arm has finished yet")
            return CostEstimate(seconds, True, None, 0, given.world_size)

        return need_of


def load(
    path: str, overrides: Sequence[str], results: Path, *, plugins: Sequence[Path] = (), may_download: bool = False
) -> Declared:
    """Compose and check everything; ``plugins``: files of users' own losses.

    Raises:
        UserError: anything that is not allowed, before anything runs.
    """
    register(plugins)
    declaration = declare(Path(path), overrides)
    for note in grid.shadowed_overrides(declaration):
        print(f"note: {note}")
    files = _find(declaration, may_download)
    return _declared(declaration, files, results, plugins)


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
        slots = _slots(declaration, expansion)
    manifest = grid.manifest(declaration, files, expansion, str(revision()["revision"]))
    own = [str(file.resolve()) for file in plugins]
    plan = make_plan(expansion.cells, Index(results / "runs"))
    _refuse_other_evaluations(plan, declaration, results)
    return Declared(declaration, files, expansion, manifest, plan, slots, own)


def _refuse_other_evaluations(plan: Plan, declaration: Declaration, results: Path) -> None:
    declared = evaluation.final(asdict(declaration.evaluation))
    entries = plan.evaluated_otherwise(declared)
    if not entries:
        return
    outcome = entries[0].record.outcome()
    used = evaluation.final(vars(outcome.evaluation)) if outcome and outcome.evaluation else {}
    name = next(name for name in {**declared, **used} if declared.get(name) != used.get(name))
    preset = evaluation_presets.named(declared)
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


def _slots(declaration: Declaration, expansion: Expansion) -> Slots:
    cluster, of = declaration.cluster, resources(declaration)
    ranks = max(of(cell).world_size for cell, _ in expansion.cells)
    if cluster.scheduler != "none":
        return _cluster_slots(declaration, len(expansion.cells), ranks)
    return divide(len(expansion.cells), cluster.slots, cluster.device, ranks)


def _cluster_slots(declaration: Declaration, cells: int, ranks: int) -> Slots:
    """As many jobs at once as the cluster is asked for, whatever it gives.

    Raises:
        UserError: the profile lacks what this machine cannot know of the cluster.
    """
    cluster = declaration.cluster
    if cluster.device == "auto":
        what = "what a cluster's nodes have cannot be seen from here"
        raise UserError(what, key="cluster.device", allowed="cpu, cuda")
    if not cluster.time:
        what = "a cluster's jobs need a time limit, in minutes"
        raise UserError(what, key="cluster.time", allowed="value > 0, such as cluster.time=240")
    if cluster.cells_per_job > 1 and ranks > 1:
        what = f"cells of {ranks} processes have a job each"
        raise UserError(what, key="cluster.cells_per_job", allowed="1")
    return Slots((cluster.throttle or cells) * ranks, cluster.cpus, cluster.device)


def _download(name: str, folder: str) -> None:
    print(f"{name} is not on this machine: downloading it to {folder}/ through torchvision", flush=True)
    Path(folder).mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "harness.ssl.data.download", name, folder], check=False)
