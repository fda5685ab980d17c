"""``harness gc``: what it removes, and what it never does."""

from __future__ import annotations

from pathlib import Path

from harness.cell import Cell
from harness.store.outcome import Outcome
from tests.support.results import Results, as_json, harness
from tests.support.ways_of_damage import flipped


def files(results: Results, cell: Cell) -> set[str]:
    folder = results.record(cell).path
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.pt*")}
    return found | {path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors")}


def collect(results: Results, *words: str) -> str:
    code, said = harness("gc", *words, "--yes", results=results.path)
    assert code == 0, said
    return said


def test_checkpoints_of_finished_cells_go_and_encoders_and_logs_stay(results: Results) -> None:
    attempt = results.finish(results.cells[0])
    (attempt.path / ".checkpoint.pt.new").write_bytes(b"torn")
    others = {path for path in attempt.path.iterdir() if "checkpoint" not in path.name}
    said = collect(results)
    assert "removed 3 files, 2 MiB" in said
    assert set(attempt.path.iterdir()) == others
    assert "There is nothing to remove." in collect(results)


def test_what_an_unfinished_cell_goes_on_from_stays(results: Results) -> None:
    failed, running, queued, interrupted = results.cells
    results.fail(failed)
    (results.begin(running).path / "checkpoint.previous.pt").write_bytes(b"x")
    results.fail(queued)
    results.queue(queued)
    attempt = results.begin(interrupted)
    (attempt.path / "checkpoint.pt").write_bytes(b"x")
    attempt.end(Outcome("interrupted", cause="signal"))
    before = [files(results, cell) for cell in results.cells]
    assert "There is nothing to remove." in collect(results)
    assert [files(results, cell) for cell in results.cells] == before
    assert all(before)


def test_superseded_attempts_of_an_unfinished_cell(results: Results) -> None:
    cell = results.cells[0]
    results.fail(cell)
    newest = results.fail(cell)
    results.begin(cell).end(Outcome("interrupted", cause="signal"))  # before its first checkpoint
    collect(results)
    assert files(results, cell) == {f"attempts/{newest.number}/checkpoint.pt"}


def test_older_checkpoints_stay_where_the_newest_is_damaged(results: Results) -> None:
    cell = results.cells[0]
    results.fail(cell)
    flipped(results.fail(cell).checkpoint)
    assert "There is nothing to remove." in collect(results)
    assert files(results, cell) == {"attempts/1/checkpoint.pt", "attempts/2/checkpoint.pt"}


def test_it_lists_first_and_removes_nothing_unasked(results: Results, tmp_path: Path) -> None:
    results.finish(results.cells[0])
    before = files(results, results.cells[0])
    code, said = harness("gc", results=results.path)
    assert code == 2
    assert f"1 MiB  {results.cells[0].cell_id}  loss=dcl seed=0: attempts/1/checkpoint.pt" in said
    assert f"harness gc --results {results.path} --yes" in said
    assert files(results, results.cells[0]) == before


def test_only_what_was_named(results: Results) -> None:
    for cell in results.cells[:2]:
        results.finish(cell)
    collect(results, "seed=1")
    assert "attempts/1/checkpoint.pt" in files(results, results.cells[0])
    assert files(results, results.cells[1]) == {"attempts/1/encoder.safetensors"}


def test_json(results: Results) -> None:
    results.finish(results.cells[0])
    said = as_json("gc", "--yes", results=results.path)
    assert said["bytes"] == 2 * 2**20
    assert [Path(file["path"]).name for file in said["files"]] == ["checkpoint.pt", "checkpoint.previous.pt"]
