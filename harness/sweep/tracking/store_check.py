"""Whether the MLflow store in the results is whole, as far as SQLite can see; read without importing mlflow."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from harness.errors import DamagedFile, quoted
from harness.sweep.tracking.tracking_uri import default_uri, embedded

#: How long to wait for a process that writes to the store.
BUSY_SECONDS = 20.0


def damage_of_store(results: Path) -> Iterator[DamagedFile]:
    """Yield the store of the results, if there is one and it is damaged.

    SQLite keeps no checksums: a changed value in a sound structure is not seen. The store is only a copy of the
    records.
    """
    store = embedded(default_uri(results))
    if store is None or not store.exists():
        return
    sync = f"next: harness sync --results {quoted(results)} replaces it with a new one, filled from the records"
    if why := "it is no file" if not store.is_file() else _problem(store):
        yield DamagedFile(store, f"{why}; {sync}")


def _problem(store: Path) -> str:
    """Return what SQLite finds wrong with a file; empty where it finds nothing, or cannot look now."""
    if not store.stat().st_size:
        return "it is empty"
    try:
        with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as connection:
            found = [str(line) for (line,) in connection.execute("PRAGMA quick_check(1)")]
    except sqlite3.OperationalError:  # another process holds it, or it may not be read
        return ""
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == ["ok"] else found[0].splitlines()[-1]
