"""The MLflow mirror, on a real store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from harness.cli.declared import load
from harness.manifest import Manifest
from harness.record import Record
from harness.sweep.mirror import Mirror
from harness.sweep.uri import default_uri


@pytest.fixture
def manifest(tiny: Path) -> Manifest:
    overrides = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0,1]"]
    declared = load(str(tiny), overrides, tiny.parent / "results")
    for entry in declared.plan.entries:
        Record.prepare(tiny.parent / "results" / "runs", entry.cell)
    return declared.manifest


def runs(results: Path) -> list[Run]:
    client = MlflowClient(default_uri(results))
    experiment = client.get_experiment_by_name("tiny.demo")
    return list(client.search_runs([experiment.experiment_id]))


def test_a_cell_is_one_run_with_its_own_timestamps_however_often_it_is_mirrored(tiny: Path, manifest: Manifest) -> None:
    results = tiny.parent / "results"
    record = Record(results / "runs" / manifest.cells[0].cell_id)
    first = record.begin({"revision": "abc"})
    first.log_event(0, {"val_knn": 10.0})
    first.log_event(20, {"loss": 5.0})
    Mirror(results, manifest, default_uri(results)).mirror()
    first.end({"state": "interrupted"})
    second = record.begin({"revision": "abc"})
    second.log_event(20, {"loss": 5.0})
    second.log_event(40, {"loss": 4.0, "val_knn": 20.0})
    second.end({"state": "finished", "metrics": {"test_knn": 30.0}, "evaluation": manifest.evaluation})
    for _ in range(3):
        Mirror(results, manifest, default_uri(results)).mirror()
    (run,) = runs(results)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test_knn"] == 30.0
    assert run.data.params["loss.name"] == "dcl"
    assert run.data.tags["harness.cell_id"] == record.cell_id
    assert run.data.tags["harness.attempts"] == "2"
    history = MlflowClient(default_uri(results)).get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(20, 5.0), (40, 4.0)]
    times = {event["step"]: int(event["time"] * 1000) for event in second.events()}
    assert history[-1].timestamp == times[40]


def test_table_and_plot_are_artifacts_of_one_summary_run(tiny: Path, manifest: Manifest) -> None:
    results = tiny.parent / "results"
    results.mkdir(exist_ok=True)
    path = results / "table.csv"
    path.write_text("a")
    for _ in range(2):
        Mirror(results, manifest, default_uri(results)).summarize([path])
    (run,) = runs(results)
    client = MlflowClient(default_uri(results))
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["table.csv"]


def test_the_mirror_process_ends_when_the_sweep_does(tiny: Path, manifest: Manifest) -> None:
    results = tiny.parent / "results"
    manifest.write(results)
    Record(results / "runs" / manifest.cells[0].cell_id).begin({}).log_event(0, {"val_knn": 1.0})
    command = [sys.executable, "-m", "harness.sweep.mirror", str(results), manifest.name, default_uri(results)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(runs(results)) == 1


def test_two_mirrors_at_once_make_one_run_a_cell(tiny: Path, manifest: Manifest) -> None:
    results = tiny.parent / "results"
    manifest.write(results)
    for cell in manifest.cells:
        Record(results / "runs" / cell.cell_id).begin({}).log_event(0, {"val_knn": 1.0})
    command = [sys.executable, "-m", "harness.sweep.mirror", str(results), manifest.name, default_uri(results)]
    processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert len(runs(results)) == 2


def test_a_cell_that_failed_before_its_first_event_is_a_failed_run(tiny: Path, manifest: Manifest) -> None:
    results = tiny.parent / "results"
    Record(results / "runs" / manifest.cells[0].cell_id).begin({}).end({"state": "failed", "error": "x"})
    Mirror(results, manifest, default_uri(results)).mirror()
    assert [run.info.status for run in runs(results)] == ["FAILED"]


def test_an_unreachable_server_is_said_by_the_exit_code(tiny: Path, manifest: Manifest) -> None:
    results = tiny.parent / "results"
    manifest.write(results)
    # Port 9 (discard) is closed; without retries, so that the test does not wait for minutes.
    command = [sys.executable, "-m", "harness.sweep.mirror", str(results), manifest.name, "http://127.0.0.1:9"]
    environment = {**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment)
    assert done.returncode == 1
