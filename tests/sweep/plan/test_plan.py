"""Plans: states, what would run, and what it would cost."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cell import Backbone, Cell, Dataset, Loss
from harness.cli.shared.load_experiment import load
from harness.datasets import DatasetFiles
from harness.errors import UserError
from harness.evaluation import Evaluation
from harness.store.index import Index
from harness.store.outcome import Outcome
from harness.store.provenance import ComputeEnvironment, Provenance
from harness.store.record import Record
from harness.store.submission import RunConfig, Submission
from harness.sweep.expand.resources import Resources
from harness.sweep.plan import cost
from harness.sweep.plan.cost import StepCost, footprint, measure, shape
from harness.sweep.plan.plan import (
    CostEstimate,
    Entry,
    estimate,
    finished_seconds,
    make_plan,
    seconds_of,
    timing_key,
    wall_seconds,
)

EVALUATION = {"knn_k": 20, "knn_temperature": 0.07, "penalty": 1e-4}
FILES = DatasetFiles("", "", 1437, 360, 1, 1437)


def finish(record: Record, evaluation: dict[str, float], config: RunConfig | None = None, **more: Any) -> None:
    environment = ComputeEnvironment(hardware="a processor", threads=1)
    attempt = record.begin(Provenance(Submission(run=config or RunConfig()), environment))
    attempt.end(Outcome("finished", evaluation=Evaluation(**evaluation), **more))


def planned(cells: list[Cell], runs: Path) -> dict[str, list[Cell]]:
    plan = make_plan([(cell, {}) for cell in cells], Index(runs))
    chosen = {"runs": plan.to_run(), "not again": plan.not_retried(), "stale": plan.to_run(rerun_stale=True)}
    return {name: [entry.cell for entry in entries] for name, entries in chosen.items()}


def test_only_missing_and_failed_cells_run(tiny: Path) -> None:
    results = tiny.parent / "results"
    cells = [entry.cell for entry in load(str(tiny), [], results).plan.entries]
    records = [Record.prepare(results / "runs", cell) for cell in cells[:3]]
    finish(records[0], EVALUATION)
    records[1].begin().end(Outcome("failed", error="x"))
    records[2].begin()
    plan = load(str(tiny), [], results).plan
    assert plan.counts() == {"finished": 1, "failed": 1, "running": 1, "missing": 9}
    assert [entry.cell for entry in plan.to_run()] == [cells[1], *cells[3:]]


def test_what_would_fail_again_is_not_run_again(tmp_path: Path) -> None:
    causes = ("error", "killed", "diverged", "out_of_memory")
    cells = {cause: Cell(seed=seed) for seed, cause in enumerate(causes)}
    for cause, cell in cells.items():
        Record.prepare(tmp_path, cell).begin().fail("x", cause)
    chosen = planned(list(cells.values()), tmp_path)
    assert chosen["runs"] == [cells["error"], cells["killed"]]
    assert chosen["not again"] == [cells["diverged"], cells["out_of_memory"]]


def test_stale_cells_run_only_when_asked(tmp_path: Path) -> None:
    old, new = Cell(versions={"loss": 1}), Cell(versions={"loss": 2})
    finish(Record.prepare(tmp_path, old), EVALUATION)
    chosen = planned([new], tmp_path)
    assert chosen["runs"] == []
    assert chosen["stale"] == [new]


def test_finished_cells_of_another_evaluation_are_not_mixed_in(tiny: Path) -> None:
    results = tiny.parent / "results"
    cell = load(str(tiny), [], results).plan.entries[0].cell
    finish(Record.prepare(results / "runs", cell), EVALUATION)
    load(str(tiny), ["evaluate.every=5"], results)
    with pytest.raises(UserError, match=r"knn_k = 20, declared is 10"):
        load(str(tiny), ["evaluate.knn_k=10"], results)


@pytest.mark.e2e
def test_the_work_of_a_plan_grows_in_proportion_to_its_cells(tmp_path: Path) -> None:
    """Work is counted in calls, which no other load of the machine changes; seconds: benchmarks/plan_scale.py."""
    one = Cell()
    finish(Record.prepare(tmp_path, one), EVALUATION)
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def calls_of(seeds: int) -> int:
        nonlocal calls
        cells = [(dataclasses.replace(one, seed=seed), {"seed": seed}) for seed in range(seeds)]
        [cell.cell_id for cell, _ in cells]  # the expansion has asked for them already
        calls = 0
        sys.setprofile(count)
        plan = make_plan(cells, Index(tmp_path))
        sys.setprofile(None)
        assert plan.counts() == {"missing": seeds - 1, "finished": 1}
        return calls

    calls_of(10)  # what is computed once in a process
    few, many = calls_of(1_000), calls_of(4_000)
    assert many < 4.1 * few
    assert many / 4_000 < 100, "calls of each cell"


def test_cost_is_steps_and_features(tiny: Path) -> None:
    declared = load(str(tiny), [], tiny.parent / "results")
    cell, files = declared.plan.entries[0].cell, declared.files
    measured = StepCost(sample=1 / 64, feature=0.001, start=5.0, encoder_bytes=0, checkpoint_bytes=0)
    evaluation = Evaluation(curve_bank=500)
    steps, features = 1293 // 64, 2 * (1293 + 360) + 2 * (500 + 144)
    assert seconds_of(cell, files, evaluation, measured) == pytest.approx(5 + steps + 0.001 * features)
    assert seconds_of(cell, files, evaluation, measured, ranks=2) == pytest.approx(5 + steps / 2 + 0.001 * features)
    augmented = dataclasses.replace(evaluation, linear="sgd", linear_epochs=90)
    probes = 2 * 90 * 1293  # two probes, which take the features of crops in each of their epochs
    assert seconds_of(cell, files, augmented, measured) == pytest.approx(5 + steps + 0.001 * (features + probes))


def test_finished_seeds_of_an_arm_tell_its_seconds(tmp_path: Path) -> None:
    for seed, seconds in enumerate((10.0, 30.0, 14.0)):
        finish(Record.prepare(tmp_path, Cell(seed=seed)), EVALUATION, seconds=seconds, world_size=1)
    finish(Record.prepare(tmp_path, Cell(epochs=7)), EVALUATION, seconds=99.0, world_size=1)
    finish(Record.prepare(tmp_path, Cell(seed=3)), EVALUATION, RunConfig(micro_batch=32), seconds=50.0, world_size=1)
    finish(Record.prepare(tmp_path, Cell(seed=4)), EVALUATION, RunConfig(compile=True), seconds=8.0, world_size=1)
    index = Index(tmp_path)
    found = finished_seconds(index, "a processor", 1, compiled=False)
    assert sorted(found.values()) == [14.0, 50.0, 99.0]
    given = [Resources(1, 1, None), Resources(1, 1, None, micro_batch=32), Resources(2, 1, None)]
    assert [found.get(timing_key(Cell(), one)) for one in given] == [14.0, 50.0, None]
    assert list(finished_seconds(index, "a processor", 1, compiled=True).values()) == [8.0]
    assert finished_seconds(index, "a processor", 2, compiled=False) == {}, "with other threads it takes another time"
    assert finished_seconds(index, "another", 1, compiled=False) == {}


@pytest.mark.parametrize(
    ("jobs", "processes", "seconds"),
    [
        ([], 2, 0),
        ([(3, 1), (3, 1), (3, 1)], 2, 6),
        ([(5, 1), (1, 1), (1, 1)], 2, 5),
        ([(4, 1), (1, 2), (1, 1)], 2, 6),  # the third may not overtake the second, which waits for both
        ([(4, 3)], 2, 4),
    ],
)
def test_wall_time_is_that_of_jobs_that_begin_in_order(
    jobs: list[tuple[float, int]], processes: int, seconds: float
) -> None:
    assert wall_seconds(jobs, processes) == seconds


def test_cells_that_need_more_memory_than_there_is_are_refused() -> None:
    small, large = Cell(batch_size=32), Cell(batch_size=4096)
    entries = [Entry(cell, {}, Path("runs"), "missing") for cell in (small, large)]

    def need_of(cell: Cell) -> CostEstimate:
        return CostEstimate(3600.0, cell is small, disk=10, memory=cell.batch_size, ranks=2)

    found = estimate(entries, need_of, processes=2, memory_limit=100)
    assert [entry.cell for entry in found.entries] == [small]
    assert [entry.cell for entry in found.refused] == [large]
    assert found.memory(entries[1]) == 4096
    assert (found.device_hours, found.wall_hours, found.disk_bytes) == (2.0, 1.0, 10)
    unknown = estimate(entries, lambda cell: CostEstimate(1.0, True, None, 0, 1), processes=2, memory_limit=100)
    assert unknown.disk_bytes is None
    assert (found.by_records, found.by_steps) == (1, 0)


ONE = Resources(1, 1, None)


def test_micro_batches_are_measured_as_such() -> None:
    whole, parts = (shape(Cell(batch_size=4096), device="cpu", micro_batch=size) for size in (None, 256))
    assert (whole.batch_size, whole.micro_batch) == (64, None)
    assert (parts.batch_size, parts.micro_batch) == (64, 32), "two of them, of what fits a small step"
    assert shape(Cell(batch_size=4096), "cuda", 256).micro_batch == 256
    large = shape(Cell(batch_size=64, dataset=Dataset("imagefolder", 96)), "cpu", 32)
    assert (large.batch_size, large.micro_batch) == (6, 3), "batch norm takes two samples at least"
    assert footprint(Cell(batch_size=4096), 1, 256) != footprint(Cell(batch_size=4096), 1)


def test_kinds_are_told_apart_by_what_they_cost() -> None:
    def kinds(**fields: object) -> tuple[bool, bool]:
        one, other = Cell(batch_size=64), dataclasses.replace(Cell(batch_size=64), **fields)
        return shape(one, "cpu") == shape(other, "cpu"), footprint(one, 1) == footprint(other, 1)

    assert kinds(seed=1, epochs=9) == (True, True)
    assert kinds(loss=Loss("dcl")) == (True, False), "a loss costs no time worth measuring, but its logits take memory"
    assert kinds(batch_size=512) == (True, False), "on a CPU images cost the same time in every batch"
    assert kinds(backbone=Backbone("convnet", 8)) == (False, False)


@pytest.mark.parametrize(("size", "batch"), [(8, 64), (32, 64), (96, 7), (224, 4)])
def test_on_a_cpu_a_small_step_is_measured(size: int, batch: int) -> None:
    cell = Cell(batch_size=512, dataset=Dataset("imagefolder", size))
    assert shape(cell, "cpu").batch_size == batch
    assert shape(cell, "cuda").batch_size == 512


@pytest.fixture
def one_run(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many kinds each run of the measuring process was asked for."""
    asked: list[int] = []
    run = cost._run

    def counted(request: dict[str, list[object]], *more: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        asked.append(len(request["steps"]) + len(request["memory"]))
        return run(request, *more)

    monkeypatch.setattr(cost, "_run", counted)
    return asked


@pytest.mark.e2e
@pytest.mark.own_costs
def test_steps_are_measured_in_a_subprocess_and_remembered(one_run: list[int], tiny: Path) -> None:
    declared = load(str(tiny), ["axes.seed=[0]"], tiny.parent / "results")
    cells = [(entry.cell, ONE) for entry in declared.plan.entries]
    first = measure(cells, declared.files, 1, "cpu")
    (measured,) = first.steps.values()
    assert min(dataclasses.astuple(measured)) > 0
    assert len(first.memory) == 4  # two losses, two batch sizes
    assert measure(cells, declared.files, 1, "cpu") == first
    assert one_run == [5]


def test_without_torch_nothing_is_measured(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise cost.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(cost.importlib.metadata, "version", missing)
    with pytest.raises(UserError, match="torch is missing"):
        measure([(Cell(), ONE)], FILES, 1, "cpu")
