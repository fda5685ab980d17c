"""``harness sync``, on a real store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli.main import app
from harness.cli.shared.load_experiment import load
from harness.manifest import Manifest
from harness.store.outcome import Outcome
from harness.store.record import Record


@pytest.fixture
def manifest(tiny: Path) -> Manifest:
    """Three cells that have finished."""
    declared = load(str(tiny), ["axes.loss=[dcl]", "axes.batch_size=[64]"], tiny.parent / "results")
    for entry in declared.plan.entries:
        attempt = Record.prepare(tiny.parent / "results" / "runs", entry.cell).begin()
        attempt.log_event(20, {"loss": 1.0}, epoch=1)
        attempt.end(Outcome("finished", metrics={"test_knn": 1.0}, evaluation=declared.manifest.evaluation))
    declared.manifest.write(tiny.parent / "results")
    return declared.manifest


def sync(tiny: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["sync", *words, "--results", str(tiny.parent / "results")])


@pytest.mark.e2e
def test_sync_adds_what_is_missing_and_nothing_twice(tiny: Path, manifest: Manifest) -> None:
    assert sync(tiny).output == "tiny.demo: 3 runs and 6 points added\n"
    assert sync(tiny).output == "tiny.demo: 0 runs and 0 points added\n"
    assert sync(tiny, str(tiny)).output == "tiny.demo: 0 runs and 0 points added\n"


@pytest.mark.e2e
def test_single_cells_can_be_named(tiny: Path, manifest: Manifest) -> None:
    assert sync(tiny, manifest.cells[0].cell_id[:8]).output == "tiny.demo: 1 runs and 2 points added\n"
    assert sync(tiny, "tiny.demo").output == "tiny.demo: 2 runs and 4 points added\n"


@pytest.mark.e2e
def test_the_result_as_json(tiny: Path, manifest: Manifest) -> None:
    said = json.loads(sync(tiny, "--json").output)
    assert said["experiments"] == [{"experiment": "tiny.demo", "runs": 3, "points": 6, "errors": {}}]
    assert said["tracking_uri"].endswith("mlflow.db")


@pytest.mark.e2e
def test_a_cell_that_cannot_be_mirrored_is_named(tiny: Path, manifest: Manifest) -> None:
    damaged = manifest.cells[1].cell_id
    (tiny.parent / "results" / "runs" / damaged / "cell.json").write_text("{}")
    done = sync(tiny)
    assert done.exit_code == 1
    assert "2 runs and 4 points added" in done.output
    assert f"not mirrored: {damaged}" in done.output


@pytest.mark.parametrize("uri", ["foo://x", "sqlite:///{folder}/words.txt", "postgresql://nobody@127.0.0.1:9/x"])
def test_a_store_that_is_none_is_said_in_one_line(tiny: Path, manifest: Manifest, uri: str) -> None:
    (tiny.parent / "words.txt").write_text("these are words, and no database")
    done = sync(tiny, "--tracking-uri", uri.format(folder=tiny.parent))
    assert done.exit_code == 1
    assert done.output.startswith("harness: ")
    assert done.output.count("\n") == 1


def test_nothing_was_swept_yet(tmp_path: Path) -> None:
    assert "No experiment has been swept" in CliRunner().invoke(app, ["sync", "--results", str(tmp_path)]).output


@pytest.mark.e2e
def test_a_damaged_manifest_is_named_and_the_others_are_mirrored(tiny: Path, manifest: Manifest) -> None:
    (tiny.parent / "results" / "manifests" / "hurt.demo.json").write_text("{")
    done = sync(tiny)
    assert done.exit_code == 1
    assert "tiny.demo: 3 runs and 6 points added" in done.output
    assert "not mirrored: hurt.demo: " in done.output
    assert "hurt.demo.json: the manifest is damaged" in done.output
    found = json.loads(sync(tiny, "--json").stdout)["experiments"]
    assert [("error" in one, one["experiment"]) for one in found] == [(False, "tiny.demo"), (True, "hurt.demo")]
    assert sync(tiny, "tiny.demo").exit_code == 0
