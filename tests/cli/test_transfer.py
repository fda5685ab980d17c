"""``harness export`` and ``harness import``."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from harness.cell import Cell
from harness.index import Index
from harness.manifest import Manifest
from harness.record import Record
from harness.study.frame import tidy
from tests.cli.results import Results, as_json, harness


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
        "cells": {"added": both, "identical": [], "different": []},
        "manifests": {"added": ["tiny.demo"], "identical": [], "different": []},
    }
    manifest = Manifest.read(there, "tiny.demo")
    assert list(tidy(manifest, there)["state"]) == ["finished", "failed", "missing", "missing"]
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
    assert said["cells"] == {"added": [], "identical": [same.cell_id], "different": [other.cell_id]}
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
    provenance = attempt.provenance()
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


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = tmp_path / "bomb.tar.gz"
    with tarfile.open(bomb, "w:gz") as opened:
        file(opened, f"runs/{ID}/cell.json", " " * 10_000_000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    code, said = harness("import", str(bomb), results=tmp_path / "there")
    assert (code, "more than fits here" in said) == (2, True)


@pytest.mark.parametrize("length", [0, 10, 300, -5])
def test_a_torn_archive_is_refused_whole(results: Results, archive: Path, tmp_path: Path, length: int) -> None:
    torn = tmp_path / "torn.tar.gz"
    torn.write_bytes(archive.read_bytes()[:length])
    code, said = harness("import", str(torn), results=tmp_path / "there")
    assert (code, "no whole archive" in said) == (2, True), said
    assert not list((tmp_path / "there").rglob("*"))


def test_a_flipped_bit_is_found(results: Results, archive: Path, tmp_path: Path) -> None:
    content = bytearray(archive.read_bytes())
    for position in range(100, len(content), 97):  # after the name of the file
        content[position] ^= 1
        archive.write_bytes(content)
        assert harness("import", str(archive), results=tmp_path / "there")[0] == 2
        content[position] ^= 1
    archive.write_bytes(content)
    assert harness("import", str(archive), results=tmp_path / "there")[0] == 0


def test_no_such_archive(tmp_path: Path) -> None:
    code, said = harness("import", str(tmp_path / "nothing.tar.gz"), results=tmp_path / "there")
    assert (code, "no such file" in said) == (2, True)
