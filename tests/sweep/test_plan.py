"""Plans: states, what would run, and what it would cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.declared import load
from harness.errors import UserError
from harness.record import Record
from harness.sweep import cost
from harness.sweep.cost import Measured, measure, step_key
from harness.sweep.plan import seconds_of

EVALUATION = {"knn_k": 20, "knn_temperature": 0.07, "penalty": 1e-4}


def finish(record: Record, evaluation: dict[str, float]) -> None:
    record.begin({}).end({"state": "finished", "metrics": {}, "evaluation": evaluation})


def test_only_missing_and_failed_cells_run(tiny: Path) -> None:
    results = tiny.parent / "results"
    cells = [entry.cell for entry in load(str(tiny), [], results).plan.entries]
    records = [Record.prepare(results / "runs", cell) for cell in cells[:3]]
    finish(records[0], EVALUATION)
    records[1].begin({}).end({"state": "failed", "error": "x"})
    records[2].begin({})
    plan = load(str(tiny), [], results).plan
    assert plan.counts() == {"finished": 1, "failed": 1, "running": 1, "missing": 9}
    assert [entry.cell for entry in plan.to_run()] == [cells[1], *cells[3:]]


def test_finished_cells_of_another_evaluation_are_not_mixed_in(tiny: Path) -> None:
    results = tiny.parent / "results"
    cell = load(str(tiny), [], results).plan.entries[0].cell
    finish(Record.prepare(results / "runs", cell), EVALUATION)
    load(str(tiny), ["evaluate.every=5"], results)
    with pytest.raises(UserError, match=r"knn_k = 20, declared is 10"):
        load(str(tiny), ["evaluate.knn_k=10"], results)


def test_cost_is_steps_and_features(tiny: Path) -> None:
    declared = load(str(tiny), [], tiny.parent / "results")
    cell, files = declared.plan.entries[0].cell, declared.files
    measured = {step_key(cell, files, "cpu"): Measured(sample=1 / 64, feature=0.001, start=5.0)}
    evaluation = {"every": 1, "curve_bank": 500, "linear": "lbfgs"}
    steps, features = 1293 // 64, 2 * (1293 + 360) + 2 * (500 + 144)
    assert seconds_of(cell, files, evaluation, measured, "cpu") == pytest.approx(5 + steps + 0.001 * features)
    augmented = {**evaluation, "linear": "sgd", "linear_epochs": 90}
    probes = 2 * 90 * 1293  # two probes, which take the features of crops in each of their epochs
    assert seconds_of(cell, files, augmented, measured, "cpu") == pytest.approx(5 + steps + 0.001 * (features + probes))


def test_steps_are_measured_in_a_subprocess_and_remembered(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = load(str(tiny), ["axes.seed=[0]"], tiny.parent / "results")
    cells = [entry.cell for entry in declared.plan.entries]
    first = measure(cells, declared.files, 1, "cpu")
    assert len(first) == 1  # on a CPU images cost the same in every batch, and no loss costs another step
    assert all(value.sample > 0 and value.feature > 0 and value.start > 0 for value in first.values())
    monkeypatch.setattr(cost.subprocess, "run", None)
    assert measure(cells, declared.files, 1, "cpu") == first
