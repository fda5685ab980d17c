"""``harness export`` and ``harness import``."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cell import Cell
from harness.files import read_json, write_json
from harness.manifest import Manifest
from harness.store.index import Index
from harness.store.outcome import Outcome
from harness.store.provenance import ComputeEnvironment, Provenance
from harness.store.record import Attempt, Record
from harness.study.frame import tidy
from tests.support.results import OUTCOME, Results, as_json, harness


@pytest.fixture
def archive(results: Results, tmp_path: Path) -> Path:
    """Of one finished and one failed cell."""
    results.finish(results.cells[0])
    results.fail(results.cells[1])
    return exported(results, tmp_path / "records.tar.gz")


def exported(results: Results, to: Path, *options: str) -> Path:
    code, said = harness("export", "tiny.demo", "--to", str(to), *options, results=results.path)
    assert code == 0, said
    return to


NONE: dict[str, list[str]] = {"added": [], "completed": [], "identical": [], "different": [], "running": []}


def members(archive: Path) -> set[str]:
    with tarfile.open(archive) as opened:
        return {member.name for member in opened if member.isreg()}


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_an_archive_holds(results: Results, archive: Path, tmp_path: Path) -> None:
    finished, failed = (cell.cell_id for cell in results.cells[:2])
    logs = {"provenance.json", "events.jsonl", "outcome.json", "stdout.log", "stderr.log"}
    expected = {f"runs/{one}/attempts/1/{name}" for one in (finished, failed) for name in logs}
    expected |= {f"runs/{one}/cell.json" for one in (finished, failed)} | {f"runs/{finished}/outcome.json"}
    assert members(archive) == {"manifests/tiny.demo.json", *expected}
    with_encoders = exported(results, tmp_path / "more.tar.gz", "--encoders")
    assert members(with_encoders) - members(archive) == {f"runs/{finished}/attempts/1/encoder.safetensors"}
    with tarfile.open(archive) as opened:
        assert {(member.uid, member.uname) for member in opened} == {(0, "")}


def test_an_imported_finished_cell_counts_as_finished(results: Results, archive: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    said = as_json("import", str(archive), results=there)
    both = sorted(cell.cell_id for cell in results.cells[:2])
    assert said == {
        "cells": {"added": both, "completed": [], "identical": [], "different": [], "running": []},
        "manifests": {"added": ["tiny.demo"], "completed": [], "identical": [], "different": [], "running": []},
    }
    manifest = Manifest.read(there, "tiny.demo")
    assert list(tidy(manifest, there).frame["state"]) == ["finished", "failed", "missing", "missing"]
    mine, theirs = (Index(folder / "runs")[results.cells[0].cell_id] for folder in (results.path, there))
    assert mine == theirs
    assert not list(there.glob(".import*"))


def test_evaluations_travel(results: Results, tmp_path: Path) -> None:
    results.finish(results.cells[0])
    results.record(results.cells[0]).add_evaluation("0" * 12, {"metrics": {"test_knn": 1.0}})
    archive = exported(results, tmp_path / "records.tar.gz")
    assert harness("import", str(archive), results=tmp_path / "there")[0] == 0
    assert Record(tmp_path / "there" / "runs" / results.cells[0].cell_id).added_evaluation("0" * 12)


def test_nothing_is_overwritten(results: Results, archive: Path) -> None:
    same, other = (results.record(cell) for cell in results.cells[:2])
    (other.path / "attempts" / "1" / "events.jsonl").write_text("something else\n")
    before = content(results.path)
    said = as_json("import", str(archive), results=results.path)
    assert said["cells"] == {**NONE, "identical": [same.cell_id], "different": [other.cell_id]}
    assert content(results.path) == before
    shutil.rmtree(same.path)
    assert as_json("import", str(archive), results=results.path)["cells"]["added"] == [same.cell_id]


def test_what_runs_or_is_queued_or_was_never_begun_is_left_out(results: Results, tmp_path: Path) -> None:
    finished, running, queued, missing = results.cells
    results.finish(finished)
    results.begin(running)
    results.queue(queued)
    archive = tmp_path / "records.tar.gz"
    said = as_json("export", "tiny.demo", "--to", str(archive), results=results.path)
    assert said["cells"] == [finished.cell_id]
    assert said["left_out"] == {running.cell_id: "running", queued.cell_id: "queued", missing.cell_id: "missing"}
    assert said["bytes"] == archive.stat().st_size


def test_a_killed_attempt_is_no_running_one_elsewhere(results: Results, tmp_path: Path) -> None:
    attempt = results.begin(results.cells[0])
    provenance = read_json(attempt.provenance_file) or {}
    (attempt.path / "provenance.json").write_text(json.dumps({**provenance, "boot": "another", "host": "another"}))
    for path in (attempt.path / "heartbeat", attempt.path):
        os.utime(path, (1e9, 1e9))
    archive = exported(results, tmp_path / "records.tar.gz")
    assert harness("import", str(archive), results=tmp_path / "there")[0] == 0
    assert Record(tmp_path / "there" / "runs" / results.cells[0].cell_id).state() == "missing"


def test_nothing_to_export_and_a_file_that_exists(results: Results, archive: Path, tmp_path: Path) -> None:
    code, said = harness(
        "export", "tiny.demo", "state=missing", "--to", str(tmp_path / "x.tar.gz"), results=results.path
    )
    assert (code, "none of these cells has ended" in said) == (2, True)
    code, said = harness("export", "tiny.demo", "--to", str(archive), results=results.path)
    assert (code, "such a file already" in said) == (2, True)
    assert not list(tmp_path.glob(".*tar*"))


# Cells that had begun here, and have finished there.

UNFINISHED: dict[str, Callable[[Results, Cell], object]] = {
    "prepared": lambda here, cell: here.record(cell),
    "failed": lambda here, cell: here.fail(cell),
    "interrupted": lambda here, cell: here.begin(cell).end(Outcome("interrupted", cause="signal")),
    "killed": lambda here, cell: kill(here.begin(cell)),
    "queued": lambda here, cell: here.queue(cell),
}


def kill(attempt: Attempt) -> None:
    write_json(attempt.path / "provenance.json", {**(read_json(attempt.provenance_file) or {}), "pid": 2**22 + 1})


def elsewhere(tmp_path: Path) -> tuple[Path, Record]:
    """An archive of a cell that was interrupted after its first epoch, went on and finished; and its record."""
    there = Results(tmp_path / "elsewhere")
    there.begin(there.cells[0]).end(Outcome("interrupted", cause="signal"))
    resumed = there.record(there.cells[0]).begin(
        Provenance(environment=ComputeEnvironment(hardware="another processor", threads=8))
    )
    resumed.log_event(10, {"val_knn": 35.0, "loss": 2.0}, epoch=2)
    resumed.log_event(20, {"val_knn": 40.0, "loss": 1.0}, epoch=4)
    (resumed.path / "stdout.log").write_text("finished there\n")
    (resumed.path / "encoder.safetensors").write_bytes(b"weights")
    resumed.end(OUTCOME)
    there.record(there.cells[0]).add_evaluation("0" * 12, {"metrics": {"test_knn": 1.0}})
    return exported(there, tmp_path / "elsewhere.tar.gz", "--encoders"), there.record(there.cells[0])


@pytest.mark.parametrize("kind", sorted(UNFINISHED))
def test_what_is_unfinished_here_takes_the_finished_attempt(results: Results, tmp_path: Path, kind: str) -> None:
    cell = results.cells[0]
    UNFINISHED[kind](results, cell)
    archive, theirs = elsewhere(tmp_path)
    mine = results.record(cell)
    before, attempts = content(mine.path), len(mine.attempts())
    said = as_json("import", str(archive), results=results.path)
    assert said["cells"] == {**NONE, "completed": [cell.cell_id]}
    assert mine.state() == "finished"
    assert mine.outcome() == replace(theirs.outcome() or OUTCOME, attempt=attempts + 1)
    assert (mine.path / "outcome.json").samefile(mine.attempts()[-1].path / "outcome.json")
    assert before.items() <= content(mine.path).items(), "what was here stays as it was"
    assert mine.events() == theirs.events(), "those of its earlier attempts too"
    taken = mine.attempts()[-1]
    assert taken.provenance() == theirs.attempts()[-1].provenance()
    assert (taken.path / "stdout.log").read_text() == "finished there\n"
    assert mine.encoder() == taken.path / "encoder.safetensors"
    assert mine.added_evaluation("0" * 12)
    assert Index(results.path / "runs")[cell.cell_id].state == "finished"
    assert not list(results.path.glob(".import*"))


def test_the_curve_is_the_archives_where_both_have_points(results: Results, tmp_path: Path) -> None:
    partial = results.begin(results.cells[0])
    partial.log_event(10, {"val_knn": 34.9, "loss": 2.1}, epoch=2)  # other threads, other last digits
    partial.end(Outcome("interrupted", cause="signal"))
    archive, theirs = elsewhere(tmp_path)
    as_json("import", str(archive), results=results.path)
    assert results.record(results.cells[0]).events() == theirs.events()


def test_what_was_completed_is_identical_afterwards(results: Results, tmp_path: Path) -> None:
    results.fail(results.cells[0])
    archive, theirs = elsewhere(tmp_path)
    code, said = harness("import", str(archive), results=results.path)
    assert (code, "completed 1 cell that had not finished here" in said) == (0, True)
    before = content(results.path)
    again = as_json("import", str(archive), results=results.path)
    assert again["cells"] == {**NONE, "identical": [theirs.cell_id]}
    assert content(results.path) == before
    theirs.add_evaluation("1" * 12, {"metrics": {"test_knn": 2.0}})
    later = exported(Results(tmp_path / "elsewhere"), tmp_path / "later.tar.gz")
    assert as_json("import", str(later), results=results.path)["cells"] == {**NONE, "different": [theirs.cell_id]}


def test_what_runs_here_is_left_alone(results: Results, tmp_path: Path) -> None:
    attempt = results.begin(results.cells[0])
    archive, theirs = elsewhere(tmp_path)
    before = content(attempt.record.path)
    assert as_json("import", str(archive), results=results.path)["cells"] == {**NONE, "running": [theirs.cell_id]}
    code, said = harness("import", str(archive), results=results.path)
    assert (code, "added 0 cells" in said) == (0, True)
    assert content(attempt.record.path) == before
    assert attempt.record.state() == "running"


def test_what_has_finished_here_stays(results: Results, tmp_path: Path) -> None:
    mine = results.finish(results.cells[0]).record
    archive, _ = elsewhere(tmp_path)
    before = content(mine.path)
    assert as_json("import", str(archive), results=results.path)["cells"] == {**NONE, "different": [mine.cell_id]}
    assert content(mine.path) == before


def test_what_failed_there_completes_nothing(results: Results, archive: Path, tmp_path: Path) -> None:
    there = Results(tmp_path / "there")
    there.begin(there.cells[1]).end(Outcome("interrupted", cause="signal"))
    said = as_json("import", str(archive), results=there.path)
    assert said["cells"]["different"] == [there.cells[1].cell_id]
    assert there.record(there.cells[1]).state() == "missing"


# Archives that nobody exported.

ID = Cell().cell_id
CELL = f"runs/{ID}/cell.json"


def file(archive: tarfile.TarFile, name: str, text: str = "{}", **more: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(text)
    for key, value in more.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(text.encode()))


Hostile = tuple[str, dict[str, Any], str]
HOSTILE: dict[str, Hostile] = {
    "above": ("../evil.json", {}, "no export writes: '../evil.json'"),
    "above runs": (f"runs/{ID}/../../evil.json", {}, "no export writes"),
    "absolute": ("/tmp/evil.json", {}, "no export writes"),
    "a manifest above": ("manifests/../evil.json", {}, "no export writes"),
    "a link": (CELL, {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "text": ""}, "no export writes"),
    "a hard link": (CELL, {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd", "text": ""}, "no export writes"),
    "a linked folder": (f"runs/{ID}", {"type": tarfile.SYMTYPE, "linkname": "/etc", "text": ""}, "no export writes"),
    "a device": (CELL, {"type": tarfile.CHRTYPE, "text": ""}, "no export writes"),
    "a pipe": (CELL, {"type": tarfile.FIFOTYPE, "text": ""}, "no export writes"),
    "a checkpoint": (f"runs/{ID}/attempts/1/checkpoint.pt", {}, "no export writes"),
    "a program": (f"runs/{ID}/attempts/1/run.sh", {}, "no export writes"),
    "another cell": ("runs/000000000000/cell.json", {}, "is another"),
    "twice": (f"runs/{Cell(seed=5).cell_id}/cell.json", {}, "twice"),
    "an outcome of nothing": (f"runs/{Cell(seed=5).cell_id}/outcome.json", {}, "is damaged"),
    "no manifest": ("manifests/x.demo.json", {"text": '{"cells": 1}'}, "another version"),
}


@pytest.mark.tried("hostile archives and files", "an archive with paths, links, devices or files that no export writes")
@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_an_archive_that_no_export_has_written_is_refused_whole(tmp_path: Path, kind: str) -> None:
    name, more, words = HOSTILE[kind]
    bad, there = tmp_path / "bad.tar.gz", tmp_path / "below" / "there"
    with tarfile.open(bad, "w:gz") as opened:
        file(opened, f"runs/{Cell(seed=5).cell_id}/cell.json", json.dumps({"seed": 5}))
        file(opened, name, **more)
    code, said = harness("import", str(bad), results=there)
    assert (code, words in said) == (2, True), said
    assert content(tmp_path) == {"bad.tar.gz": bad.read_bytes()}


FINISHED = {"state": "finished", "attempt": 1}
OTHERWISE: dict[str, tuple[dict[str, object], str, str]] = {
    "an attempt elsewhere": ({**FINISHED, "attempt": "../attempts/1"}, "", "the outcome of"),
    "no curve": (FINISHED, '{"step": [], "metrics": {}}\n', "the curve of"),
}


@pytest.mark.tried("hostile archives and files", "an archive with an outcome or a curve that is none")
@pytest.mark.parametrize("kind", sorted(OTHERWISE))
def test_a_finished_attempt_that_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    outcome, events, words = OTHERWISE[kind]
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as opened:
        file(opened, CELL)
        for name in ("outcome.json", "attempts/1/outcome.json"):
            file(opened, f"runs/{ID}/{name}", json.dumps(outcome))
        file(opened, f"runs/{ID}/attempts/1/events.jsonl", events)
    code, said = harness("import", str(tmp_path / "bad.tar.gz"), results=tmp_path / "there")
    assert (code, f"{words} {ID} is damaged" in said) == (2, True), said
    assert not list((tmp_path / "there").rglob("*"))


@pytest.mark.tried("hostile archives and files", "an archive that unpacks to more than the disk holds")
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = tmp_path / "bomb.tar.gz"
    with tarfile.open(bomb, "w:gz") as opened:
        file(opened, f"runs/{ID}/cell.json", " " * 10_000_000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    code, said = harness("import", str(bomb), results=tmp_path / "there")
    assert (code, "more than fits here" in said) == (2, True)


@pytest.mark.tried("hostile archives and files", "a torn archive")
@pytest.mark.parametrize("length", [0, 10, 300, -5])
def test_a_torn_archive_is_refused_whole(results: Results, archive: Path, tmp_path: Path, length: int) -> None:
    torn = tmp_path / "torn.tar.gz"
    torn.write_bytes(archive.read_bytes()[:length])
    code, said = harness("import", str(torn), results=tmp_path / "there")
    assert (code, "no whole archive" in said) == (2, True), said
    assert not list((tmp_path / "there").rglob("*"))


def test_a_flipped_bit_is_found(results: Results, archive: Path, tmp_path: Path) -> None:
    """Some bits change nothing: a copy of a zero is the same from wherever in a run of zeros it is taken."""
    written = archive.read_bytes()
    for position in range(100, len(written), 97):  # after the name of the file
        flipped = bytearray(written)
        flipped[position] ^= 1
        archive.write_bytes(flipped)
        code, _ = harness("import", str(archive), results=tmp_path / f"there-{position}")
        assert code == (0 if unpacks_to(flipped, gzip.decompress(written)) else 2)


def unpacks_to(archive: bytes, content: bytes) -> bool:
    with suppress(OSError, EOFError, zlib.error):
        return gzip.decompress(archive) == content
    return False


def test_no_such_archive(tmp_path: Path) -> None:
    code, said = harness("import", str(tmp_path / "nothing.tar.gz"), results=tmp_path / "there")
    assert (code, "no such file" in said) == (2, True)
