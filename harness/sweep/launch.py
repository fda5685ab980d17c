"""An experiment that is ready to be launched: which cells run, what they take, and how each is submitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.catalog.losses import LOSSES
from harness.cell import Cell
from harness.datasets import DatasetFiles
from harness.datasets.image_folder import bytes_to_cache
from harness.environment.gpus import gpus, hardware
from harness.environment.memory import memory_bytes
from harness.errors import UnreadableFile, UserError
from harness.manifest import Manifest
from harness.store.index import Index
from harness.store.maintenance.repair import repair
from harness.store.submission import RunConfig, Submission
from harness.sweep.declare.compose import Declaration
from harness.sweep.expand.grid import Expansion
from harness.sweep.expand.resources import Resources, resources
from harness.sweep.plan.cost import measure
from harness.sweep.plan.disk_space import DiskSpace, required_space
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
from harness.sweep.run.supervisor import Task


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
        """Return the function that gives the resources of a cell."""
        return resources(self.declaration)

    @property
    def on_cluster(self) -> bool:
        """Whether the cells are submitted to a scheduler, and do not run on this machine."""
        return self.declaration.cluster.scheduler != "none"

    def estimate(self, entries: Sequence[Entry]) -> PlanEstimate:
        """Estimate what these cells take: from finished seeds of their arms, or else from steps measured here.

        Steps are measured on this machine also for a cluster without GPUs. For a cluster with GPUs, on a machine that
        has none, only finished seeds can say what a cell takes.

        Raises:
            UserError: a step cannot be measured.
        """
        resources_of, slots, evaluation = self.resources, self.slots, self.declaration.evaluation
        if self.on_cluster and slots.device == "cuda" and not gpus():
            return estimate(entries, self._known_needs(), slots.count, None)
        arms = {arm_id(entry.cell): entry.cell for entry in entries}
        cells = [(cell, resources_of(cell)) for cell in arms.values()]
        costs = measure(cells, self.files, slots.threads, slots.device, self.plugins)
        finished = finished_seconds(self.plan.index, hardware(slots.device), slots.threads, self._compiled)

        def need_of(cell: Cell) -> CostEstimate:
            return estimate_cell(cell, resources_of(cell), costs, finished, self.files, evaluation)

        return estimate(entries, need_of, slots.count, self.memory_limit)

    @property
    def memory_limit(self) -> int | None:
        """Return the bytes that one cell may take where it runs.

        None on a cluster that nothing is known of: this machine's memory is not that of the cluster's nodes, and
        ``cluster.memory`` is not that of their GPUs.
        """
        if not self.on_cluster:
            return memory_bytes(self.slots.device)
        memory = self.declaration.cluster.memory
        return round(memory * 2**30) if memory and self.slots.device == "cpu" else None

    @property
    def _compiled(self) -> bool:
        return self.declaration.cluster.compile

    def _known_needs(self) -> Callable[[Cell], CostEstimate]:
        """Return the estimate of cells whose arms have finished seeds, on any hardware of the cluster."""
        finished = finished_seconds(self.plan.index, None, self.slots.threads, self._compiled)

        def need_of(cell: Cell) -> CostEstimate:
            resources = self.resources(cell)
            seconds = finished.get(timing_key(cell, resources))
            if seconds is None:
                raise UserError("there is no GPU here to measure a step, and some arms have no finished seed yet")
            return CostEstimate(seconds, True, None, 0, resources.world_size)

        return need_of

    def hours_at_most(self, entries: Sequence[Entry]) -> float:
        """Return the device-hours of these cells if each needs its whole time limit once."""
        allocations = [self.resources(entry.cell) for entry in entries]
        return sum((resources.time or 0) / 60 * resources.world_size for resources in allocations)

    def disk_space(self, entries: Sequence[Entry], estimate: PlanEstimate | None, results: Path) -> list[DiskSpace]:
        """Return what these cells write, and how much is free where they write it."""
        images = bytes_to_cache({entry.cell.dataset for entry in entries}, self.files, elsewhere=self.on_cluster)
        return required_space(estimate.disk_bytes if estimate else None, results, images, elsewhere=self.on_cluster)

    def in_progress(self, *, on_cluster: bool) -> list[Entry]:
        """Return the cells that run or are queued as a cluster's jobs, or else in sweeps on single machines."""
        entries = [entry for entry in self.plan.entries if entry.state in ("running", "queued")]
        return [entry for entry in entries if self._has_job(entry) == on_cluster]

    def _has_job(self, entry: Entry) -> bool:
        status = self.plan.index.job_status(entry.cell.cell_id)
        return status is not None and not status.over

    def submission(self, source_hash: str = "") -> Submission:
        """Return how every cell is run, except for what its resources decide."""
        root = self.declaration.experiment.dataset.root
        run = RunConfig(
            threads=self.slots.threads,
            device=self.slots.device,
            root=str(Path(root).resolve()) if root else None,
            evaluation=self.declaration.evaluation,
            compile=self.declaration.cluster.compile,
            plugins=tuple(self.plugins),
            source_hash=source_hash,
        )
        return Submission(run, experiment=self.manifest.experiment, scale=self.manifest.scale)

    def tasks(self, estimate: PlanEstimate) -> list[Task]:
        """Return the tasks of the cells that fit into this machine's memory.

        Raises:
            UserError: a cell needs several nodes.
        """
        if any(self.resources(entry.cell).nodes > 1 for entry in estimate.entries):
            what = "this machine is one node, and some cells need several"
            raise UserError(what, where="cluster.nodes", allowed="1")
        common = self.submission()
        return [self.task(entry, common, estimate.memory(entry)) for entry in estimate.entries]

    def task(self, entry: Entry, common: Submission, memory: int = 0) -> Task:
        """Return the task of one cell; ``memory``: bytes that it needs, 0 where that is not known."""
        own = tuple(file for file in self.plugins if file == LOSSES[entry.cell.loss.name].file)
        run = self.resources(entry.cell).run_config(replace(common.run, memory=memory, plugins=own), entry.cell)
        return Task(entry.record, entry.cell, entry.label(self.manifest.varying), replace(common, run=run))

    def set_damage_aside(self) -> set[str]:
        """Rename damaged files of the cells, or write them anew, so that what is missing can be computed.

        A record whose files may not be read or written stays as it is; the ids of these cells are returned.
        """
        refused = set()
        for entry, _ in self.plan.with_damage():
            if entry.state != "running":
                try:
                    repair(entry.record, entry.cell)
                except (UnreadableFile, PermissionError):
                    refused.add(entry.cell.cell_id)
        return refused

    def plan_now(self) -> Plan:
        """Return the plan of the same cells as their records are now."""
        return make_plan([(entry.cell, dict(entry.axes)) for entry in self.plan.entries], Index(self.plan.index.runs))


def slots_of(declaration: Declaration, expansion: Expansion) -> Slots:
    """Return how many processes run at a time, with how many threads each, on which device."""
    cluster, resources_of = declaration.cluster, resources(declaration)
    ranks = max(resources_of(cell).world_size for cell, _ in expansion.cells)
    if cluster.scheduler != "none":
        return _cluster_slots(declaration, len(expansion.cells), ranks)
    return divide(len(expansion.cells), cluster.slots, cluster.device, ranks)


def _cluster_slots(declaration: Declaration, cells: int, ranks: int) -> Slots:
    """Return as many slots as the cluster is asked for, however many it grants.

    Raises:
        UserError: the profile does not say what this machine cannot find out about the cluster.
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
