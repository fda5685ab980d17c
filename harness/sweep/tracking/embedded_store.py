"""The SQLite file of an embedded store, which is whole at every moment, whatever process is killed.

MLflow creates its tables, and brings them to the schema of a newer version, in dozens of steps without a transaction. A
store that was cut off within them never opens again. So these steps are taken in a draft, which becomes the store when
it is whole. The caller holds the lock of the store's writers.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import mlflow
import sqlalchemy
from alembic.util import CommandError
from mlflow.store.db import utils as database
from mlflow.store.db.base_sql_model import Base

from harness.errors import UserError
from harness.files import atomic_write, cache_folder, draft_prefix, link, sync
from harness.sweep.tracking.tracking_uri import ARTIFACTS

#: The endings of the files in which SQLite keeps a transaction that has not ended.
COMPANIONS = ("-journal", "-wal", "-shm")
BUSY_SECONDS = 20.0


class Damaged(Exception):
    """The file is no store that can be opened, for instance because its creation was cut off; the message says why."""


class OtherVersion(Exception):
    """The store has the schema of a version of MLflow that this one does not know."""


def prepare(store: Path) -> None:
    """Create the store, or bring it to the schema of this MLflow, in one step that cannot be cut off.

    Raises:
        Damaged: the file that is there can be neither opened nor brought to the schema.
        OtherVersion: it was written by a newer MLflow.
    """
    found = _revision(store)
    if found == _latest_revision():
        return
    for draft in store.parent.glob(f"{draft_prefix(store)}*"):  # of a process that was killed
        shutil.rmtree(draft, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=store.parent, prefix=draft_prefix(store)) as folder:
        draft = Path(folder) / store.name
        if found:
            _migrate(store, draft)
        else:
            _create(draft)
        _publish(draft, store, replace=bool(found))


def problem(store: Path) -> str:
    """Return why MLflow's page cannot open the store as it is; empty if it can."""
    try:
        is_ready = _revision(store) == _latest_revision()
    except Damaged as damage:
        return str(damage)
    return "" if is_ready else "it was not created by this version of MLflow"


def set_aside(store: Path) -> Path:
    """Rename a damaged store, with what SQLite keeps next to it, and return its new place."""
    names = (store.with_name(f"{store.stem}.damaged-{number}{store.suffix}") for number in itertools.count(1))
    aside = next(path for path in names if not os.path.lexists(path))
    for ending in (*COMPANIONS, ""):  # a journal that stayed behind would be played into the next store
        with suppress(FileNotFoundError):
            os.rename(f"{store}{ending}", f"{aside}{ending}")
    return aside


def artifact_locations(store: Path) -> set[str]:
    """Return the folders that the store has for the artifacts of results."""
    with closing(sqlite3.connect(store, timeout=BUSY_SECONDS)) as connection:
        found = connection.execute("SELECT artifact_location FROM experiments WHERE artifact_location IS NOT NULL")
        return {location for (location,) in found if location.endswith(f"/{ARTIFACTS}")}


def move_artifacts(store: Path, before: str, after: str) -> None:
    """Replace the location of the artifacts, which MLflow keeps as an absolute address, in experiments and runs."""
    with closing(sqlite3.connect(store, timeout=BUSY_SECONDS)) as connection, connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                f" WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
            )


def _revision(store: Path) -> str:
    """Return the revision of a store's schema; empty where there is no store yet.

    Raises:
        Damaged: the file is none that MLflow has completed.
    """
    if store.is_dir():
        raise Damaged("it is a folder")
    if not store.exists() or not store.stat().st_size:
        return ""
    try:
        with closing(sqlite3.connect(store, timeout=BUSY_SECONDS)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables:
                return ""
            if "alembic_version" not in tables:
                raise Damaged("its creation was cut off")
            revisions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.OperationalError:  # it is locked, or may not be read
        raise
    except sqlite3.DatabaseError as error:
        raise Damaged(str(error)) from None
    is_latest = revisions == [(_latest_revision(),)]
    if len(revisions) != 1 or (is_latest and not set(Base.metadata.tables) <= tables):
        raise Damaged("its creation was cut off")
    return str(revisions[0][0])


@functools.cache
def _latest_revision() -> str:
    """Return the revision of this MLflow's schema."""
    return str(database._get_latest_schema_revision())


def _create(draft: Path) -> None:
    """Make a new store, from the user's cache where this version of MLflow has made one before."""
    try:
        cached = cache_folder() / "stores" / f"mlflow-{mlflow.__version__}-{_latest_revision()}.db"
    except UserError:  # there is none
        cached = None
    if cached is None or not _copy_sound(cached, draft):
        engine = database.create_sqlalchemy_engine(f"sqlite:///{draft}")
        try:
            database._initialize_tables(engine)
        finally:
            engine.dispose()
        with suppress(OSError):  # a cache only saves time
            if cached is not None:
                cached.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(cached) as file:
                    file.write(draft.read_bytes())


def _copy_sound(cached: Path, draft: Path) -> bool:
    """Copy the empty store of the cache; return whether the copy is a sound store, else leave none."""
    with suppress(OSError, Damaged, sqlite3.Error):
        shutil.copyfile(cached, draft)
        with closing(sqlite3.connect(draft)) as connection:
            is_sound = connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        if is_sound and _revision(draft) == _latest_revision():
            return True
    draft.unlink(missing_ok=True)
    return False


def _migrate(store: Path, draft: Path) -> None:
    """Copy a store and bring the copy to the schema of this MLflow."""
    try:
        with closing(sqlite3.connect(store, timeout=BUSY_SECONDS)) as source, closing(sqlite3.connect(draft)) as copy:
            source.backup(copy)
        engine = database.create_sqlalchemy_engine(f"sqlite:///{draft}")
        try:
            database._upgrade_db(engine)
        finally:
            engine.dispose()
        if not _revision(draft):
            raise Damaged("it has no tables")
    except CommandError as error:
        raise OtherVersion(str(error)) from None
    except (sqlite3.DatabaseError, sqlalchemy.exc.SQLAlchemyError) as error:
        if "disk is full" in str(error) or "locked" in str(error):
            raise
        raise Damaged(f"it cannot be brought to the schema of this MLflow: {str(error).splitlines()[0]}") from None


def _publish(draft: Path, store: Path, *, replace: bool) -> None:
    """Give the draft the store's name; without ``replace``, a store that another process has made meanwhile stays."""
    with draft.open("rb") as file:
        sync(file)
    for ending in COMPANIONS:  # of a store that somebody has removed: it would be played into this one
        Path(f"{store}{ending}").unlink(missing_ok=True)
    if replace or store.exists():
        os.replace(draft, store)
        return
    with suppress(FileExistsError):
        link(draft, store)
