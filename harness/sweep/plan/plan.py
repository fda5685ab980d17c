"""The plan of a sweep: which cells are finished, which are missing, and what they would cost."""

from __future__ import annotations

import heapq
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cell import Cell, canonical_json, versionless_id
from harness.datasets import DatasetFiles
from harness.evaluation import Evaluation
from harness.manifest import label
from harness.store.index import Index
from harness.store.record import Record
from harness.sweep.expand.axes import Point
from harness.sweep.expand.image_counts import bank_count, steps_of
from harness.sweep.expand.resources import Resources
from harness.sweep.plan.cost import Costs, StepCost, footprint, shape
from harness.trees import Scalar

#: The causes of failure for which another attempt would fail in the same way.
HOPELESS = ("diverged", "out_of_memory")
#: The size of the other files of a cell: provenance, logs, and the events of some hundred epochs.
LOG_BYTES = 100_000

#: Arm, world size and micro-batch: cells with the same key are assumed to take equally long on the same hardware.
TimingKey = tuple[str, int, int | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell of the plan: its value on every axis, its state, and the cause if it failed."""

    cell: Cell
    axes: Mapping[str, Scalar]
    runs: Path
    state: str
    cause: str = ""

    @property
    def record(self) -> Record:
        """The cell's record, which need not exist."""
        return Record(self.runs / self.cell.cell_id)

    def label(self, varying: Sequence[str]) -> str:
        """Return the cell's name: its values on the varying axes, or its id if there are none."""
        return label(self.axes, varying) or self.cell.cell_id

    def arm_label(self, varying: Sequence[str]) -> str:
        """Return the common name of the cells that differ from this one only in their seed."""
        return label(self.axes, [path for path in varying if path != "seed"]) or "all"


@dataclass(frozen=True)
class Plan:
    """What a sweep would do: its cells with their states, and the index that they were read from."""

    entries: list[Entry]
    index: Index

    def counts(self) -> Counter[str]:
        """Return how many cells are in each state."""
        return Counter(entry.state for entry in self.entries)

    def to_run(self, rerun_stale: bool = False) -> list[Entry]:
        """Return the cells that a sweep runs: the missing and the damaged ones, and failed ones that may succeed now.

        ``rerun_stale``: also cells of which only an earlier version has finished.
        """
        states = ("missing", "failed", "damaged", *(["stale"] if rerun_stale else []))
        return [entry for entry in self.entries if entry.state in states and entry.cause not in HOPELESS]

    def with_damage(self) -> list[tuple[Entry, list[str]]]:
        """Return the cells of which a file is damaged, each with a sentence for each such file."""
        if not self.index.cell_ids():
            return []
        found = ((entry, self.index[entry.cell.cell_id].damaged) for entry in self.entries)
        return [(entry, damaged) for entry, damaged in found if damaged]

    def not_retried(self) -> list[Entry]:
        """Return the failed cells that would fail again."""
        return [entry for entry in self.entries if entry.cause in HOPELESS]

    def evaluated_otherwise(self, evaluation: Evaluation) -> list[Entry]:
        """Return the finished cells without results of this evaluation; results of another are not comparable."""
        finished = [entry for entry in self.entries if entry.state == "finished"]
        return [entry for entry in finished if self.index.metrics(entry.cell.cell_id, evaluation) is None]


def make_plan(cells: Sequence[tuple[Cell, Point]], index: Index) -> Plan:
    """Return the plan, with the state of every cell."""
    begun = bool(index.cell_ids())
    entries = []
    for cell, axes in cells:
        state = index.state_of(cell.cell_id, versionless_id(cell)) if begun else "missing"
        cause = index[cell.cell_id].cause if state == "failed" else ""
        entries.append(Entry(cell, axes, index.runs, state, cause))
    index.remember()
    return Plan(entries, index)


@dataclass(frozen=True)
class CostEstimate:
    """The cost of one cell.

    ``finished``: whether its seconds are those of finished seeds of its arm, and not of a measured step; ``disk``: the
    bytes of its files (None: unknown); ``memory``: bytes of the whole cell on a CPU, of each
    process on GPUs (0: unknown)."""

    seconds: float
    finished: bool
    disk: int | None
    memory: int
    ranks: int


@dataclass(frozen=True)
class PlanEstimate:
    """The cost of some cells.

    ``entries``: those that fit into ``memory_limit`` bytes (None: unknown); ``refused``: the others;
    ``needs``: of all of them, by cell id; ``wall_hours``: until the last of ``entries`` has finished."""

    entries: list[Entry]
    refused: list[Entry]
    needs: Mapping[str, CostEstimate]
    wall_hours: float
    memory_limit: int | None

    @property
    def device_hours(self) -> float:
        """The hours of all cells that fit, summed over ranks."""
        return sum(need.seconds * need.ranks for need in self._fitting) / 3600

    @property
    def disk_bytes(self) -> int | None:
        """The bytes that the results will take; None where that of a cell is unknown."""
        known = [need.disk for need in self._fitting if need.disk is not None]
        return sum(known) if len(known) == len(self.entries) else None

    @property
    def by_records(self) -> int:
        """Return for how many cells the seconds are those of finished seeds."""
        return sum(need.finished for need in self._fitting)

    @property
    def by_steps(self) -> int:
        """Return for how many cells the seconds follow from a measured step."""
        return len(self.entries) - self.by_records

    def memory(self, entry: Entry) -> int:
        """Return the bytes of memory that a rank of the cell needs."""
        return self.needs[entry.cell.cell_id].memory

    @property
    def _fitting(self) -> list[CostEstimate]:
        return [self.needs[entry.cell.cell_id] for entry in self.entries]


def estimate(
    entries: Sequence[Entry], need_of: Callable[[Cell], CostEstimate], processes: int, memory_limit: int | None
) -> PlanEstimate:
    """Return the cost of these cells, run in this order on a machine with this number of ``processes`` at a time."""
    by_arm: dict[str, CostEstimate] = {}
    needs: dict[str, CostEstimate] = {}
    fitting: list[Entry] = []
    refused: list[Entry] = []
    for entry in entries:
        name = arm_id(entry.cell)
        if name not in by_arm:
            by_arm[name] = need_of(entry.cell)
        needs[entry.cell.cell_id] = by_arm[name]
        too_large = memory_limit is not None and by_arm[name].memory > memory_limit
        (refused if too_large else fitting).append(entry)
    jobs = [(needs[entry.cell.cell_id].seconds, needs[entry.cell.cell_id].ranks) for entry in fitting]
    return PlanEstimate(fitting, refused, needs, wall_seconds(jobs, processes) / 3600, memory_limit)


def estimate_cell(
    cell: Cell,
    given: Resources,
    costs: Costs,
    finished: Mapping[TimingKey, float],
    files: DatasetFiles,
    evaluation: Evaluation,
) -> CostEstimate:
    """Return the cost of a cell; ``finished``: the seconds of finished cells, from their records."""
    ranks, micro_batch = given.world_size, given.micro_batch_of(cell)
    cost, known = costs.steps[shape(cell, costs.device, micro_batch)], finished.get(timing_key(cell, given))
    return CostEstimate(
        seconds_of(cell, files, evaluation, cost, ranks) if known is None else known,
        known is not None,
        2 * cost.checkpoint_bytes + cost.encoder_bytes + LOG_BYTES,
        costs.memory[footprint(cell, ranks, micro_batch)],
        ranks,
    )


def arm_id(cell: Cell) -> str:
    """Return the identity of an arm, equal for cells that differ only in their seed."""
    return canonical_json(cell, without="seed")


def timing_key(cell: Cell, given: Resources) -> TimingKey:
    """Return what decides a cell's seconds: its arm, its ranks and its micro-batch."""
    return arm_id(cell), given.world_size, given.micro_batch_of(cell)


def finished_seconds(index: Index, hardware: str | None, threads: int, compiled: bool) -> dict[TimingKey, float]:
    """Return the median seconds of finished cells that ran on this hardware (None: any), with as many threads, and
    with networks compiled or not."""
    seconds_by_key = defaultdict(list)
    for summary in map(index.__getitem__, index.cell_ids()):
        conditions = summary.conditions
        how = conditions.threads, conditions.compile
        like = how == (threads, compiled) and hardware in (None, conditions.hardware)
        if summary.outcome and like and (cell := summary.typed_cell()):
            ranks, micro_batch = summary.outcome.world_size, conditions.micro_batch
            seconds_by_key[arm_id(cell), ranks, micro_batch].append(summary.outcome.seconds)
    return {kind: statistics.median(seconds) for kind, seconds in seconds_by_key.items()}


def wall_seconds(jobs: Iterable[tuple[float, int]], processes: int) -> float:
    """Return the seconds until the last of these jobs, given as (seconds, processes), has ended.

    A job begins as soon as its processes are free, and not before the job in front of it.
    """
    free = [0.0] * processes
    for seconds, wanted in jobs:
        taken = [heapq.heappop(free) for _ in range(min(wanted, processes))]
        begin = max(taken)
        for _ in taken:
            heapq.heappush(free, begin + seconds)
        free = [max(begin, time) for time in free]
    return max(free)


def seconds_of(cell: Cell, files: DatasetFiles, evaluation: Evaluation, cost: StepCost, ranks: int = 1) -> float:
    """Return the estimated seconds of one cell.

    They are those of its steps, whose images the ranks share, of the features of all images twice, and of the features
    of the learning curve at each of its points.

    The linear probe on augmented images (sgd) takes the features of the bank anew in each of its epochs.
    """
    points = 1 + cell.epochs // evaluation.every
    bank = bank_count(cell, files)
    curve = points * (min(bank, evaluation.curve_bank) + files.labelled - bank)
    passes = 1 + (evaluation.linear_epochs or 0 if evaluation.linear == "sgd" else 0)
    features = 2 * (passes * bank + files.test) + curve
    trained = steps_of(cell, files) * cell.batch_size / ranks
    return cost.start + trained * cost.sample + features * cost.feature
