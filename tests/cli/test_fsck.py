"""``harness fsck``, and the other verbs beside a damaged cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from tests.support.results import Results, harness, with_three_finished
from tests.support.ways_of_damage import flipped, folder


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return with_three_finished(tmp_path / "results")


def test_what_is_whole_is_said_to_be_whole(results: Results) -> None:
    assert harness("fsck", results=results.path) == (0, "3 cells read, and every file is whole.\n")


def test_what_is_damaged_is_named_and_set_aside_when_asked(results: Results) -> None:
    record = results.record(results.cells[0])
    weights = record.path / "attempts/1/encoder.safetensors"
    flipped(weights)
    code, said = harness("fsck", results=results.path)
    assert (code, f"seed=0: {weights}: the file is damaged" in said) == (1, True), said
    code, printed = harness("fsck", "--json", results=results.path)
    (listed,) = json.loads(printed)["damaged"]
    assert (listed["cell_id"], listed["file"]) == (record.cell_id, str(weights))
    code, said = harness("fsck", record.cell_id, "--set-aside", results=results.path)
    assert (code, "Rename 1 file, and let the next sweep train 1 cell again?" in said) == (2, True), said
    assert (record.state(), weights.exists()) == ("finished", True)
    assert harness("fsck", record.cell_id, "--set-aside", "--yes", results=results.path)[0] == 1
    assert harness("fsck", results=results.path)[0] == 0
    assert record.state() == "missing"
    assert weights.with_name("encoder.safetensors.damaged-1").exists()


def test_what_is_renamed_and_what_trains_again_is_listed_first(results: Results) -> None:
    first, second = (results.record(cell) for cell in results.cells[:2])
    weights, provenance = first.path / "attempts/1/encoder.safetensors", second.path / "attempts/1/provenance.json"
    flipped(weights)
    flipped(provenance)
    done = CliRunner().invoke(app, ["fsck", "--set-aside", "--yes", "--results", str(results.path)])
    assert done.exit_code == 1
    assert f"will be renamed: {weights}\nwill be renamed: {provenance}" in done.stderr
    assert f"will be trained again: {first.cell_id} " in done.stderr
    assert second.cell_id not in done.stderr.partition("will be trained again")[2]
    assert "provenance.json, is not written again" in done.stdout
    assert (first.state(), second.state()) == ("missing", "finished")


@pytest.mark.parametrize("words", [["status"], ["logs", "tiny.demo"], ["gc", "--yes"], ["retry", "tiny.demo"]])
def test_other_cells_are_served_beside_a_damaged_one(results: Results, words: list[str]) -> None:
    flipped(results.record(results.cells[0]).outcome_file)
    folder(results.record(results.cells[1]).path / "attempts/1/provenance.json")
    code, said = harness(*words, results=results.path)
    assert code == 0, said
    if words == ["status"]:
        assert "4 cells: 1 missing, 2 finished, 1 damaged" in said
        assert "the same harness sweep again computes these cells again" in said
        assert "provenance.json: the file is damaged" in said


def test_an_export_leaves_a_damaged_cell_out_by_name(results: Results, tmp_path: Path) -> None:
    damaged = results.record(results.cells[0])
    flipped(damaged.path / "attempts/1/events.jsonl")
    code, printed = harness("export", "tiny.demo", "--to", str(tmp_path / "x.tar.gz"), "--json", results=results.path)
    written = json.loads(printed[printed.index("{") :])
    assert (code, len(written["cells"])) == (0, 2)
    assert written["left_out"][damaged.cell_id] == "damaged"
