"""``harness ui``: MLflow's page is opened on a store that is whole, and no other is touched."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli.main import app
from harness.errors import UserError
from harness.sweep.tracking.embedded_store import prepare
from harness.sweep.tracking.tracking_uri import default_uri

pytestmark = pytest.mark.e2e


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    prepare(tmp_path / "results" / "mlflow.db")
    return tmp_path / "results"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that would have replaced this process."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, words, environment: commands.append(words))
    return commands


def ui(results: Path) -> Result:
    return CliRunner().invoke(app, ["ui", "--results", str(results)])


def test_the_page_is_opened_on_the_store_of_the_results(results: Path, started: list[list[str]]) -> None:
    assert ui(results).exit_code == 0
    assert started[0][started[0].index("mlflow") + 1] == "ui"
    assert default_uri(results) in started[0]


def test_results_that_were_moved_are_said_with_the_command_that_mends_them(
    results: Path, started: list[list[str]]
) -> None:
    with closing(sqlite3.connect(results / "mlflow.db")) as connection, connection:
        location = (results / "mlartifacts").resolve().as_uri()
        connection.execute(f"INSERT INTO experiments (name, artifact_location) VALUES ('here', '{location}')")
    assert "moved" not in ui(results).output
    moved = results.rename(results.parent / "moved to")
    assert f"harness sync --results '{moved}'" in ui(moved).output


@pytest.mark.parametrize("damage", ["emptied", "text", "a folder", "cut off at once", "cut off in the middle"])
def test_a_store_that_mlflow_would_not_open_is_not_touched_and_the_remedy_is_said(
    results: Path, started: list[list[str]], damage: str
) -> None:
    store = results / "mlflow.db"
    if damage == "emptied":
        store.write_bytes(b"")
    elif damage == "text":
        store.write_text("these are words, and no database")
    elif damage == "a folder":
        store.unlink()
        store.mkdir()
    else:
        with closing(sqlite3.connect(store)) as connection, connection:
            at_once = damage == "cut off at once"
            connection.execute(
                "DROP TABLE alembic_version" if at_once else "UPDATE alembic_version SET version_num = 'cbc13b556ace'"
            )
    before = None if store.is_dir() else store.read_bytes()
    done = ui(results)
    assert isinstance(done.exception, UserError)
    assert "MLflow cannot open its store" in done.exception.what
    assert done.exception.next_command == f"harness sync --results {results}"
    assert not started
    assert before is None or store.read_bytes() == before


def test_nothing_is_created_where_nothing_was_mirrored(tmp_path: Path, started: list[list[str]]) -> None:
    assert isinstance(ui(tmp_path).exception, UserError)
    assert list(tmp_path.glob("mlflow*")) == []
    assert not started
