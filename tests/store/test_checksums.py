"""Files that vouch for their bytes: JSON objects, curves, weights, checkpoints; and files of before, which do not."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from harness.cell import Cell
from harness.errors import DamagedFile, UnreadableFile
from harness.files import read_as, read_if_whole, read_json, set_aside, write_json
from harness.store.checksum import Checksum, check_parts
from harness.store.index import Index
from harness.store.maintenance.fsck import damages_of_record
from harness.store.maintenance.repair import reopen, repair
from harness.store.record import Busy, Record
from harness.store.submission import Submission
from harness.sweep.launch import Declared
from tests.support.results import Results, with_three_finished
from tests.support.ways_of_damage import emptied, file, flipped, folder, halved, removed, wrong_fields, wrong_type

CONTENT = {"a": 1, "b": {"c": [1.5, None, "é"]}}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Three finished cells that vouch for their files."""
    return with_three_finished(tmp_path / "results")


def test_a_json_file_has_its_checksum_as_its_last_key_and_is_read_without_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, CONTENT)
    assert list(json.loads(path.read_text())) == ["a", "b", "checksum"]
    assert read_json(path) == CONTENT
    write_json(path, CONTENT, checksum=False)
    assert read_json(path) == CONTENT == json.loads(path.read_text())
    assert read_json(tmp_path / "absent.json") is None


def test_each_bit_of_a_json_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, CONTENT)
    written = path.read_bytes()
    for place in range(len(written)):
        for bit in range(8):
            changed = bytearray(written)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            try:
                read = read_json(path)
            except DamagedFile:
                continue
            # The name of the key "checksum" has changed, and nothing else.
            assert read is not None
            assert {name: value for name, value in read.items() if name in CONTENT} == CONTENT
            assert len(read) == len(CONTENT) + 1


@pytest.mark.parametrize("way", [emptied, halved, folder, wrong_type])
def test_a_file_that_is_no_json_object_is_an_error_that_says_so(way: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, CONTENT)
    way(path)
    with pytest.raises(DamagedFile, match=r"a.json: the file is damaged: [^\n]+$"):
        read_json(path)
    assert read_if_whole(path, dict) is None
    write_json(path, CONTENT)  # it can be written anew, also where a folder lies
    assert read_json(path) == CONTENT


@pytest.mark.parametrize("content", [{"threads": "two"}, {"evaluation": 3}, {"plugins": 1}, {"micro_batch": True}])
def test_values_of_wrong_types_are_damage(content: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "submission.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match="it has not the content that it must have"):
        read_as(path, Submission.from_json)


def test_what_is_set_aside_is_kept_under_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for number in (1, 2):
        path.write_text(str(number))
        assert set_aside(path) == tmp_path / f"a.json.damaged-{number}"
    assert set_aside(path) is None
    assert (tmp_path / "a.json.damaged-1").read_text() == "1"


def test_a_checksum_is_of_the_beginning_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"one\n")
    known = Checksum.of(path)
    assert known == Checksum().extended(b"o").extended(b"ne\n") == Checksum.parse(str(known))
    path.write_bytes(b"one\ntwo\n")
    known.check(path)
    for written in (b"on", b"onf\ntwo\n"):
        path.write_bytes(written)
        with pytest.raises(DamagedFile):
            known.check(path)


def test_each_part_of_a_checkpoint_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"weights": torch.arange(10_000)}, path)
    check_parts(path)
    flipped(path)
    assert torch.load(path)["weights"].shape == (10_000,)  # torch itself sees nothing
    with pytest.raises(DamagedFile, match="the checksum of its part"):
        check_parts(path)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *(("outcome.json", way) for way in (emptied, halved, flipped, folder, wrong_type, wrong_fields)),
        *(("attempts/1/events.jsonl", way) for way in (emptied, halved, flipped, removed, folder, wrong_fields)),
        ("attempts", file),
        ("", file),
    ],
)
def test_one_damaged_cell_is_named_and_computed_again_and_the_others_stand(
    name: str, way: Callable[[Path], None], results: Results
) -> None:
    cell, *others = results.cells[:3]
    record = results.record(cell)
    way(record.path / name)
    index = Index(results.path / "runs")
    assert index[cell.cell_id].state == record.state() == "damaged"
    assert str(record.path / name) in " ".join(index[cell.cell_id].damaged)
    assert record.damage() is not None
    assert [index[other.cell_id].state for other in others] == ["finished", "finished"]
    assert any(record.path / name == damaged.path for damaged in damages_of_record(record))
    repair(record, cell)
    assert Record.prepare(results.path / "runs", cell).state() in ("missing", "finished")
    with suppress(Busy):  # it only had to be published again
        results.finish_with_checksums(cell)
    assert record.state() == "finished"
    assert record.damage() is None
    assert record.cell() == cell


def test_a_file_that_only_tells_how_it_went_costs_no_state(results: Results) -> None:
    cell = results.cells[0]
    record = results.record(cell)
    for name in ("attempts/1/provenance.json", "submission.json", "cell.json"):
        (record.path / name).unlink(missing_ok=True)
        (record.path / name).mkdir()
    summary = Index(results.path / "runs")[cell.cell_id]
    assert (summary.state, summary.conditions.hardware) == ("finished", None)
    assert len(summary.damaged) == 3
    repair(record, cell)
    assert record.cell() == cell


@pytest.mark.parametrize("way", [emptied, halved, folder])
def test_weights_that_are_cut_are_named_and_the_numbers_stand(way: Callable[[Path], None], results: Results) -> None:
    cell = results.cells[0]
    record = results.record(cell)
    weights = record.path / "attempts/1/encoder.safetensors"
    way(weights)
    before = record.outcome_file.read_bytes()
    summary = Index(results.path / "runs")[cell.cell_id]
    assert (summary.state, record.state(), record.damage()) == ("finished", "finished", None)
    assert str(weights) in " ".join(summary.damaged)
    assert repair(record, cell) == []
    assert record.outcome_file.read_bytes() == before
    assert [damaged.path for damaged in damages_of_record(record)] == [weights]
    with pytest.raises(DamagedFile, match=r"encoder.safetensors"):
        record.whole_encoder()
    assert len(reopen(record)) == 3
    assert record.state() == "missing"


@pytest.mark.parametrize("reason", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("name", ["outcome.json", "attempts/1/events.jsonl", "submission.json", "cell.json"])
def test_what_cannot_be_read_now_is_named_so_and_nothing_is_set_aside(
    name: str, reason: int, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = results.cells[0]
    record = results.record(cell)
    path = record.path / name
    record.submit(Submission())
    before = sorted(record.path.rglob("*"))
    forbid(path, reason, monkeypatch)
    (sentence,) = Index(results.path / "runs")[cell.cell_id].damaged
    assert f"{path}: the file cannot be read now: " in sentence
    assert ("chmod u+rX" in sentence, "check the disk" in sentence) == (reason == errno.EACCES, reason != errno.EACCES)
    with pytest.raises(UnreadableFile):
        repair(record, cell)
    assert sorted(record.path.rglob("*")) == before


def test_an_attempt_that_cannot_be_read_is_not_voided_with_a_damaged_outcome(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = results.cells[0]
    record = results.record(cell)
    emptied(record.outcome_file)
    forbid(record.path / "attempts/1/outcome.json", errno.EIO, monkeypatch)
    before = sorted(record.path.rglob("*"))
    with pytest.raises(UnreadableFile):
        repair(record, cell)
    assert sorted(record.path.rglob("*")) == before


def test_a_file_that_was_missing_for_a_moment_costs_nothing(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = results.cells[0]
    record = results.record(cell)
    forbid(record.path / "attempts/1/events.jsonl", errno.ENOENT, monkeypatch, times=1)
    assert repair(record, cell) == []
    assert record.state() == "finished"


@pytest.mark.parametrize("error", [PermissionError("no"), UnreadableFile(Path("x"), "no", "chmod")])
def test_a_record_that_cannot_be_repaired_keeps_no_other_from_it(
    error: Exception, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    repaired: list[Record] = []

    def fake(record: Record, cell: Cell) -> None:
        if cell == results.cells[0]:
            raise error
        repaired.append(record)

    monkeypatch.setattr("harness.sweep.launch.repair", fake)
    pairs = [(SimpleNamespace(state="damaged", record=results.record(cell), cell=cell), []) for cell in results.cells]
    declared = SimpleNamespace(plan=SimpleNamespace(with_damage=lambda: pairs))
    assert Declared.set_damage_aside(cast("Declared", declared)) == {results.cells[0].cell_id}
    assert repaired == [results.record(cell) for cell in results.cells[1:]]


def forbid(path: Path, reason: int, monkeypatch: pytest.MonkeyPatch, times: int = 1000) -> None:
    """Let reading one file fail so often; modes stop nobody who is root."""
    read, left = Path.read_bytes, [reason] * times

    def failing(self: Path) -> bytes:
        if self == path and left:
            raise OSError(left.pop(), os.strerror(reason), str(path))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", failing)


def test_changed_weights_are_found_where_they_are_read_and_written_again(results: Results) -> None:
    record = results.record(results.cells[0])
    flipped(record.path / "attempts/1/encoder.safetensors")
    assert record.state() == "finished"
    with pytest.raises(DamagedFile, match=r"encoder.safetensors"):
        record.whole_encoder()
    assert len(reopen(record)) == 3
    assert record.state() == "missing"


def test_a_curve_is_of_the_lines_that_its_outcome_vouches_for(results: Results) -> None:
    record = results.record(results.cells[0])
    before = record.events()
    with (record.path / "attempts/1/events.jsonl").open("a") as events:
        events.write('{"step": 40, "metrics": {"val_knn": 1.0}}\n')
    assert record.events() == before


def test_damage_after_a_summary_was_remembered_is_seen(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.store.index.SETTLED_SECONDS", -1.0)
    first = Index(results.path / "runs")
    cell = results.cells[0]
    assert first[cell.cell_id].state == "finished"
    first.remember()
    emptied(results.record(cell).outcome_file)
    assert Index(results.path / "runs")[cell.cell_id].state == "damaged"
