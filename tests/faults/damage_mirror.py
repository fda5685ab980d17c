"""The damage matrix of MLflow's copy of the results: its store, its lock and its notes.

Required of every case: ``harness sync`` (after the command that it names, where it refuses) brings every run and every
point back, and touches no record.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from tests.faults.damage import Case
from tests.support.results import Results, harness
from tests.support.ways_of_damage import WAYS, emptied, file, folder, halved, removed, wrong_type

LOCK = "mlflow-mirror/here"
FOLDERS = ("mlflow-mirror", LOCK, f"{LOCK}/attempts", f"{LOCK}/attempts/1", f"{LOCK}/complete")
CASES = [
    *(Case("store", "mlflow.db", way) for way in WAYS),
    *(Case("store", f"{LOCK}/attempts/1/{name}", way) for name in ("provenance.json", "outcome.json") for way in WAYS),
    *(Case("store", f"{LOCK}/complete/tiny.demo.json", way) for way in WAYS),
    *(Case("store", name, way) for name in FOLDERS for way in (file, removed)),
    *(Case("cache", "stores/*.db", way) for way in WAYS),
]  # fmt: skip
#: Of the store itself; SQLite has no checksums, so that a flipped bit may stay unseen.
NAMED = (emptied, halved, folder, wrong_type)

#: The runs by cell, each with its points.
Stored = dict[str, set[tuple[str, float, int]]]


class Prepared:
    """Results with three finished cells that were mirrored once, made when they are first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, case: Case, to: Path) -> str:
        """Check a case in a copy, which is ``to``; return what is said about the damaged file."""
        if not self.path.exists():
            made = Results(self.path / "results")
            for cell in made.cells[:3]:
                made.finish_with_checksums(cell)
            with cache_in(self.path):
                assert sync(made.path)[0] == 0
        shutil.copytree(self.path, to)
        with cache_in(to):
            return check(to, case)


@contextmanager
def cache_in(path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path / "cache"))
        yield


def sync(results: Path) -> tuple[int, str]:
    """Return the exit code of ``harness sync`` and all that it prints."""
    done = CliRunner().invoke(app, ["sync", "--results", str(results)])
    return done.exit_code, done.output


def check(path: Path, case: Case) -> str:
    """Damage a file below ``path``; check that syncing brings all points back, and return what names the file."""
    results, records = path / "results", {record: record.read_bytes() for record in files(path)}
    wanted = stored(results)
    assert len(wanted) == 3
    (place,) = (path / "cache/harness").glob(case.file) if case.cell == "cache" else [results / case.file]
    if case.cell == "cache":
        removed(results / "mlflow.db")
    case.way(place)
    _, printed = harness("fsck", results=results)
    named = next((line for line in printed.splitlines() if str(place) in line), "")
    if case.file == "mlflow.db" and case.way in NAMED:
        assert "harness sync" in named, printed
    code, said = sync(results)
    if code:
        (remedy,) = re.findall(rf"\brm {re.escape(str(results))}\S+", said)
        subprocess.run(remedy.split(), check=True)
        code, again = sync(results)
        assert code == 0, again
    assert stored(results) == wanted, said
    assert {record: record.read_bytes() for record in files(path)} == records
    return named or next((line for line in said.splitlines() if str(place) in line), "")


def files(path: Path) -> list[Path]:
    return sorted(file for file in (path / "results/runs").rglob("*") if file.is_file())


def stored(results: Path) -> Stored:
    """Return the points of every run of the store that is not deleted."""
    query = (
        "SELECT tags.value, metrics.key, metrics.value, metrics.step FROM runs JOIN tags USING (run_uuid)"
        " JOIN metrics USING (run_uuid) WHERE tags.key = 'harness.cell_id' AND runs.lifecycle_stage = 'active'"
    )
    points: Stored = {}
    with closing(sqlite3.connect(results / "mlflow.db")) as store:
        for cell_id, key, value, step in store.execute(query):
            points.setdefault(cell_id, set()).add((key, value, step))
    return points
