"""The file of an embedded store: whole at every moment, or said to be damaged."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db import utils as database
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from mlflow.tracking import MlflowClient

from harness.files import cache_folder
from harness.sweep.tracking import embedded_store
from harness.sweep.tracking.embedded_store import Damaged, OtherVersion, prepare

pytestmark = pytest.mark.e2e


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results" / "mlflow.db"


def dump(store: Path) -> list[str]:
    with closing(sqlite3.connect(store)) as connection:
        return sorted(connection.iterdump())  # migrations make some indices in any order


def execute(store: Path, *statements: str) -> None:
    with closing(sqlite3.connect(store)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def old_store(store: Path) -> None:
    """Make a store as the MLflow of some versions ago did, with an experiment in it."""
    config = database._get_alembic_config(f"sqlite:///{store}")
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    engine = database.create_sqlalchemy_engine(f"sqlite:///{store}")
    InitialBase.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revisions[6])
    engine.dispose()
    execute(store, "INSERT INTO experiments (name, lifecycle_stage) VALUES ('of before', 'active')")


def test_a_store_is_created_once_and_nothing_else_is_left(store: Path) -> None:
    prepare(store)
    made = store.stat()
    prepare(store)
    assert (store.stat().st_ino, store.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert [path.name for path in store.parent.iterdir()] == ["mlflow.db"]
    assert embedded_store.problem(store) == ""
    assert MlflowClient(f"sqlite:///{store}").search_experiments()


def test_the_draft_of_a_process_that_was_killed_is_removed(store: Path) -> None:
    (store.parent / ".mlflow.db.killed").mkdir()
    (store.parent / ".mlflow.db.killed" / "mlflow.db").write_text("half")
    prepare(store)
    assert [path.name for path in store.parent.iterdir()] == ["mlflow.db"]


def test_a_store_from_the_cache_is_the_one_that_mlflow_creates(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(store.parent / "cache"))
    prepare(store)
    created = dump(store)
    store.unlink()
    monkeypatch.setattr(database, "_initialize_tables", pytest.fail)
    prepare(store)
    assert dump(store) == created


@pytest.mark.parametrize("damage", ["halved", "flipped", "emptied", "a folder", "text", "cut off in the middle"])
def test_a_damaged_cache_is_not_used(store: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(store)
    good = store.rename(store.parent / "good.db")
    (shared,) = (cache_folder() / "stores").iterdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(store.parent / "cache"))
    cached = cache_folder() / "stores" / shared.name
    cached.parent.mkdir(parents=True)
    shutil.copy(good, cached)
    hurt(cached, damage)
    monkeypatch.setattr(database, "_initialize_tables", lambda engine: shutil.copy(good, engine.url.database))
    prepare(store)
    assert dump(store) == dump(good)


def test_a_cache_that_cannot_be_written_only_costs_time(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (store.parent / "cache").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(store.parent / "cache"))
    prepare(store)
    assert embedded_store.problem(store) == ""


def hurt(store: Path, damage: str) -> None:
    content = store.read_bytes() if store.exists() else b""
    if damage == "halved":
        store.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        store.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif damage == "emptied":
        store.write_bytes(b"")
    elif damage == "a folder":
        store.unlink()
        store.mkdir()
    elif damage == "text":
        store.write_text("these are words, and no database" * 100)
    elif damage == "cut off at once":
        execute(store, "DROP TABLE alembic_version")
    elif damage == "cut off in the middle":
        config = database._get_alembic_config(f"sqlite:///{store}")
        revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
        execute(store, f"UPDATE alembic_version SET version_num = '{revisions[20]}'")
    elif damage == "no version":
        execute(store, "DELETE FROM alembic_version")
    elif damage == "a table is missing":
        execute(store, "PRAGMA foreign_keys = OFF", "DROP TABLE latest_metrics")


@pytest.mark.parametrize(
    "damage",
    ["flipped", "a folder", "text", "cut off at once", "cut off in the middle", "no version", "a table is missing"],
)
def test_a_store_that_cannot_be_opened_is_said_to_be_damaged_and_is_not_touched(store: Path, damage: str) -> None:
    prepare(store)
    hurt(store, damage)
    before = None if store.is_dir() else store.read_bytes()
    assert embedded_store.problem(store)
    with pytest.raises(Damaged):
        prepare(store)
    assert store.is_dir() or store.read_bytes() == before
    assert embedded_store.set_aside(store).exists()
    assert not store.exists()


@pytest.mark.parametrize("content", [b"", None])
def test_an_empty_file_is_no_store_yet(store: Path, content: bytes | None) -> None:
    if content is None:
        execute(store, "PRAGMA user_version = 1")  # SQLite has written its header, and no table
    else:
        store.write_bytes(content)
    prepare(store)
    assert embedded_store.problem(store) == ""


def test_the_journal_of_a_removed_store_does_not_get_into_the_next(store: Path) -> None:
    prepare(store)
    for ending in embedded_store.COMPANIONS:
        Path(f"{store}{ending}").write_text("of a store that somebody has removed")
    store.unlink()
    prepare(store)
    assert [path.name for path in store.parent.iterdir()] == ["mlflow.db"]


def test_a_store_that_is_set_aside_takes_its_journal_along_and_nothing_is_overwritten(store: Path) -> None:
    names = set()
    for _ in range(2):
        store.write_text("damaged")
        Path(f"{store}-journal").write_text("its journal")
        names.add(embedded_store.set_aside(store).name)
    assert names == {"mlflow.damaged-1.db", "mlflow.damaged-2.db"}
    assert Path(f"{store.parent}/mlflow.damaged-2.db-journal").read_text() == "its journal"
    assert not Path(f"{store}-journal").exists()


def test_a_store_of_an_older_mlflow_is_brought_to_the_schema_with_all_it_holds(store: Path) -> None:
    old_store(store)
    assert "not created by this version" in embedded_store.problem(store)
    prepare(store)
    assert embedded_store.problem(store) == ""
    assert [path.name for path in store.parent.iterdir()] == ["mlflow.db"]
    assert "of before" in {experiment.name for experiment in MlflowClient(f"sqlite:///{store}").search_experiments()}


def test_a_store_stays_as_it_was_if_its_migration_is_cut_off(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_store(store)
    before, upgrade = store.read_bytes(), database._upgrade_db

    def cut(engine: object) -> None:
        upgrade(engine)
        raise KeyboardInterrupt

    monkeypatch.setattr(database, "_upgrade_db", cut)
    with pytest.raises(KeyboardInterrupt):
        prepare(store)
    assert store.read_bytes() == before


def test_a_store_of_a_newer_mlflow_is_not_called_damaged(store: Path) -> None:
    prepare(store)
    execute(store, "UPDATE alembic_version SET version_num = 'fffffffffff1'")
    before = store.read_bytes()
    with pytest.raises(OtherVersion, match="fffffffffff1"):
        prepare(store)
    assert store.read_bytes() == before
