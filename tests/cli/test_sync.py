"""``harness sync``, on a real store."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner, Result

from harness.cli.main import app
from harness.cli.shared.load_experiment import load
from harness.manifest import Manifest
from harness.store.outcome import Outcome
from harness.store.record import Record
from harness.sweep.tracking.mirror import CELL, Mirror
from harness.sweep.tracking.tracking_uri import VARIABLE, default_uri


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
    assert said["experiments"] == [{"experiment": "tiny.demo", "runs": 3, "points": 6, "errors": {}, "notes": []}]
    assert said["tracking_uri"].endswith("mlflow.db")


@pytest.mark.e2e
def test_a_cell_that_cannot_be_mirrored_is_named(tiny: Path, manifest: Manifest) -> None:
    damaged = manifest.cells[1].cell_id
    (tiny.parent / "results" / "runs" / damaged / "cell.json").write_text("{}")
    done = sync(tiny)
    assert done.exit_code == 1
    assert "2 runs and 4 points added" in done.output
    assert f"not mirrored: {damaged}" in done.output


STORES_THAT_ARE_NONE = [
    "foo://x",
    "sqlite:///{folder}/words.txt",
    "sqlite:////{folder}/nowhere/mlflow.db",
    "sqlite://",
    "sqlite:///:memory:",
    "postgresql://nobody@127.0.0.1:9/x",
]


@pytest.mark.parametrize("uri", STORES_THAT_ARE_NONE)
def test_a_store_that_is_none_is_said_in_one_line(tiny: Path, manifest: Manifest, uri: str) -> None:
    (tiny.parent / "words.txt").write_text("these are words, and no database")
    done = sync(tiny, "--tracking-uri", uri.format(folder=tiny.parent))
    assert done.exit_code == 1
    assert done.output.startswith("harness: ")
    assert done.output.count("\n") == 1


def test_the_address_with_the_password_does_not_reach_other_processes(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "http://alice:S3cr3t@127.0.0.1:9")
    done = sync(tiny, "--json")
    assert json.loads(done.stdout) == {"tracking_uri": "http://127.0.0.1:9", "experiments": []}
    assert VARIABLE not in os.environ


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


def stored(results: Path, deleted: bool = False) -> list[Run]:
    client = MlflowClient(default_uri(results))
    (experiment,) = [one for one in client.search_experiments() if one.name == "tiny.demo"]
    return list(client.search_runs([experiment.experiment_id], run_view_type=2 if deleted else 1))


@pytest.mark.e2e
@pytest.mark.parametrize("damage", ["halved", "text", "a folder", "cut off", "a page is damaged"])
def test_a_damaged_store_is_renamed_and_named_and_all_experiments_come_back(
    tiny: Path, manifest: Manifest, damage: str
) -> None:
    results = tiny.parent / "results"
    assert sync(tiny).exit_code == 0
    damage_store(results / "mlflow.db", damage)
    done = sync(tiny)
    assert done.exit_code == 0, done.output
    assert "mlflow.db was damaged (" in done.stderr
    assert "is now mlflow.damaged-1.db" in done.stderr
    assert (results / "mlflow.damaged-1.db").exists()
    assert done.stdout == "tiny.demo: 3 runs and 6 points added\n"
    assert len(stored(results)) == 3
    assert sync(tiny).output == "tiny.demo: 0 runs and 0 points added\n"


def damage_store(store: Path, damage: str) -> None:
    content = store.read_bytes()
    if damage == "halved":
        store.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        store.write_text("these are words, and no database")
    elif damage == "a folder":
        store.unlink()
        store.mkdir()
    elif damage == "cut off":  # as a creation in place that was killed within a migration has left it
        with closing(sqlite3.connect(store)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = 'cbc13b556ace'")
    elif damage == "a page is damaged":
        with closing(sqlite3.connect(store)) as connection:
            (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'latest_metrics'").fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
        store.write_bytes(content[: (page - 1) * size] + b"\xff" * size + content[page * size :])


@pytest.mark.e2e
@pytest.mark.parametrize("left", ["", "wrong"])
def test_a_store_that_was_removed_or_emptied_is_filled_again(tiny: Path, manifest: Manifest, left: str) -> None:
    results = tiny.parent / "results"
    sync(tiny)
    (results / "mlflow.db").unlink()
    if left:
        (results / "mlflow.db").touch()
        (results / "mlflow.db-journal").write_text("of the store before")
    assert sync(tiny).output == "tiny.demo: 3 runs and 6 points added\n"


@pytest.mark.e2e
def test_a_damaged_store_elsewhere_is_left_to_its_owner(tiny: Path, manifest: Manifest) -> None:
    store = tiny.parent / "words.db"
    store.write_text("these are words, and no database")
    done = sync(tiny, "--tracking-uri", f"sqlite:///{store}")
    assert done.exit_code == 1
    assert f"mv {store} {store}.damaged, then this again" in done.output
    store.rename(f"{store}.damaged")
    assert sync(tiny, "--tracking-uri", f"sqlite:///{store}").exit_code == 0


@pytest.mark.e2e
def test_a_store_of_a_newer_mlflow_is_left_alone_and_said(tiny: Path, manifest: Manifest) -> None:
    sync(tiny)
    with closing(sqlite3.connect(tiny.parent / "results" / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fffffffffff1'")
    done = sync(tiny)
    assert done.exit_code == 1
    assert "newer MLflow" in done.output
    assert list((tiny.parent / "results").glob("mlflow*.db")) == [tiny.parent / "results" / "mlflow.db"]


@pytest.mark.e2e
def test_an_experiment_that_was_deleted_in_mlflow_is_restored_with_its_runs(tiny: Path, manifest: Manifest) -> None:
    results = tiny.parent / "results"
    sync(tiny)
    client = MlflowClient(default_uri(results))
    client.delete_experiment(client.get_experiment_by_name("tiny.demo").experiment_id)
    done = sync(tiny)
    assert (done.exit_code, "is restored" in done.output) == (0, True)
    assert len(stored(results)) == 3
    assert sync(tiny).output == "tiny.demo: 0 runs and 0 points added\n"


@pytest.mark.e2e
def test_a_run_that_was_deleted_in_mlflow_is_restored_and_one_that_is_gone_is_added(
    tiny: Path, manifest: Manifest
) -> None:
    results = tiny.parent / "results"
    sync(tiny)
    client = MlflowClient(default_uri(results))
    client.delete_run(stored(results)[0].info.run_id)
    assert "1 run, which was deleted in MLflow, restored" in sync(tiny).output
    assert len(stored(results)) == 3
    gone = stored(results)[0].info.run_id
    client.delete_run(gone)
    with closing(sqlite3.connect(results / "mlflow.db")) as connection, connection:  # as `mlflow gc` does
        for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
            connection.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (gone,))
    assert sync(tiny).output == "tiny.demo: 1 runs and 2 points added\n"
    assert len(stored(results)) == 3


@pytest.mark.e2e
def test_a_run_that_was_created_twice_stays_deleted(tiny: Path, manifest: Manifest) -> None:
    results = tiny.parent / "results"
    sync(tiny)
    client = MlflowClient(default_uri(results))
    twice = client.create_run(stored(results)[0].info.experiment_id, tags={CELL: manifest.cells[0].cell_id})
    for _ in range(2):
        assert sync(tiny).output == "tiny.demo: 0 runs and 0 points added\n"
    assert [run.info.run_id for run in stored(results, deleted=True)] == [twice.info.run_id]


@pytest.mark.e2e
@pytest.mark.parametrize("how", ["moved", "copied"])
def test_artifacts_follow_results_that_were_moved_or_copied(tiny: Path, manifest: Manifest, how: str) -> None:
    results, there = tiny.parent / "results", tiny.parent / "there" / "results"
    table = tiny.parent / "table.csv"
    table.write_text("a")
    Mirror(results, manifest, default_uri(results)).summarize([table])
    sync(tiny)
    (there / "..").resolve().mkdir()
    (shutil.move if how == "moved" else shutil.copytree)(results, there)
    before = sorted(path.name for path in results.rglob("*")) if how == "copied" else []
    done = CliRunner().invoke(app, ["sync", "--results", str(there)])
    assert done.exit_code == 0
    assert f"artifacts are looked for in {there.as_uri()}/mlartifacts" in done.output
    (summary,) = [run for run in stored(there) if run.data.tags.get("harness.role") == "summary"]
    assert summary.info.artifact_uri.startswith(f"{there.as_uri()}/mlartifacts/")
    client = MlflowClient(default_uri(there))
    assert [item.path for item in client.list_artifacts(summary.info.run_id)] == ["table.csv"]
    assert client.get_experiment(summary.info.experiment_id).artifact_location == f"{there.as_uri()}/mlartifacts"
    add = (
        "import sys; from pathlib import Path; from harness.manifest import Manifest\n"
        "from harness.sweep.tracking.mirror import Mirror\n"
        "from harness.sweep.tracking.tracking_uri import default_uri\n"
        "there = Path(sys.argv[1]); manifest = Manifest.read(there, 'tiny.demo')\n"
        "Mirror(there, manifest, default_uri(there)).summarize([Path(sys.argv[2])])"
    )
    subprocess.run([sys.executable, "-c", add, there, tiny], check=True)  # this process remembers places of artifacts
    assert [item.path for item in client.list_artifacts(summary.info.run_id)] == ["table.csv", "tiny.yaml"]
    if how == "copied":
        assert sorted(path.name for path in results.rglob("*")) == before, "the original gets nothing"
    else:
        assert not results.exists()
    again = CliRunner().invoke(app, ["sync", "--results", str(there)])
    assert again.output == "tiny.demo: 0 runs and 0 points added\n"


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("outcome.json", "[1, 2"),
        ("outcome.json", '{"state": "finished"}'),
        ("evaluations/x.json", "{}"),
        ("attempts/1/events.jsonl", '{"step": 1, "metrics": {"loss": 1}}\n'),
        ("attempts/1/events.jsonl", '{"time": "x", "step": 1, "metrics": {"loss": []}}\n'),
        ("attempts/1/provenance.json", "[]"),
    ],
)
def test_a_damaged_file_of_a_record_keeps_no_other_cell_out(
    tiny: Path, manifest: Manifest, file: str, content: str
) -> None:
    hurt = tiny.parent / "results" / "runs" / manifest.cells[1].cell_id / file
    hurt.parent.mkdir(exist_ok=True)
    hurt.write_text(content)
    assert sync(tiny).exit_code in (0, 1)
    cells = {run.data.tags[CELL] for run in stored(tiny.parent / "results")}
    assert {manifest.cells[0].cell_id, manifest.cells[2].cell_id} <= cells


@pytest.mark.e2e
def test_a_record_that_is_a_file_keeps_no_other_cell_out(tiny: Path, manifest: Manifest) -> None:
    record = tiny.parent / "results" / "runs" / manifest.cells[1].cell_id
    shutil.rmtree(record)
    record.write_text("in the way")
    done = sync(tiny)
    assert "2 runs and 4 points added" in done.output
    assert f"not mirrored: {record.name}" in done.output


@pytest.mark.e2e
@pytest.mark.parametrize("what", ["mlflow-mirror", "mlflow-mirror/here"])
def test_a_file_in_place_of_the_lock_is_named_with_the_command_that_removes_it(
    tiny: Path, manifest: Manifest, what: str
) -> None:
    path = tiny.parent / "results" / what
    path.parent.mkdir(exist_ok=True)
    path.write_text("in the way")
    done = sync(tiny)
    assert done.exit_code == 1
    assert f"rm {path}" in done.output
    path.unlink()
    assert sync(tiny).exit_code == 0


@pytest.mark.parametrize("name", ["what?", "50%41"])
def test_a_folder_whose_name_mlflow_does_not_take_is_said(tiny: Path, manifest: Manifest, name: str) -> None:
    shutil.move(tiny.parent / "results", tiny.parent / name)
    done = CliRunner().invoke(app, ["sync", "--results", str(tiny.parent / name)])
    assert done.exit_code == 1
    assert "rename the folder" in done.output
    assert sorted(path.name for path in tiny.parent.iterdir() if path.name.startswith(("what", "50"))) == [name]


@pytest.mark.parametrize("name", ["a#b", "50%", "a b", "été 猫"])
@pytest.mark.e2e
def test_other_names_of_folders_hold(tiny: Path, manifest: Manifest, name: str) -> None:
    shutil.move(tiny.parent / "results", tiny.parent / name)
    done = CliRunner().invoke(app, ["sync", "--results", str(tiny.parent / name)])
    assert done.output == "tiny.demo: 3 runs and 6 points added\n"
    assert (tiny.parent / name / "mlflow.db").exists()
