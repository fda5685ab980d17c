"""Files and folders of a ledger, of job arrays and of a lock that are not what they must be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.cell import Cell
from harness.files import read_json, write_json
from harness.store.record import Record
from harness.store.sweeps.job_arrays import JobArrays
from harness.store.sweeps.ledger import Ledger, Policy
from harness.store.writer_lock import writer_lock


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "results", "tiny.demo", Policy())


def test_a_failure_is_written_down_where_a_file_lies_in_the_place_of_the_folder(ledger: Ledger) -> None:
    folder = ledger.path / "failures"
    folder.rmdir()
    folder.write_text("a file")
    assert [str(damaged.path) for damaged in ledger.damages()] == [str(folder)]
    ledger.failed("0" * 12, "error", "why", final=True)
    assert [failure.error for failure in ledger.failures()] == ["why"]
    assert (ledger.path / "failures.damaged-1").read_text() == "a file"


def test_a_failure_is_written_down_where_the_folder_is_gone(ledger: Ledger) -> None:
    (ledger.path / "failures").rmdir()
    ledger.failed("0" * 12, "error", "why", final=True)
    assert [failure.error for failure in ledger.failures()] == ["why"]


def test_a_folder_in_the_place_of_a_file_that_is_to_be_removed_is_set_aside(ledger: Ledger) -> None:
    (ledger.path / "heartbeat").unlink()
    (ledger.path / "heartbeat").mkdir()
    (ledger.path / "failures" / "x.json").mkdir()
    ledger.clear_failure("x")
    ledger.close()
    assert (ledger.path / "heartbeat.damaged-1").is_dir()
    assert (ledger.path / "failures" / "x.json.damaged-1").is_dir()


def test_only_numbers_are_names_of_job_arrays(ledger: Ledger) -> None:
    arrays = JobArrays(ledger.path)
    arrays.add([["0" * 12]])
    for name in ("1 (copy).json", "notes.json", "².json"):
        (ledger.path / "batches" / name).write_text("{}")
    arrays.forget()
    assert [array.number for array in arrays.all] == [1]
    assert list(arrays.damages()) == []


def test_tasks_of_another_shape_are_damage(ledger: Ledger) -> None:
    arrays = JobArrays(ledger.path)
    arrays.add([["0" * 12]])
    path = ledger.path / "batches" / "1.json"
    for tasks in ([1, 2], ["0" * 12], [[1]]):
        write_json(path, {**(read_json(path) or {}), "tasks": tasks})
        arrays.forget()
        assert (arrays.all, [damaged.path for damaged in arrays.damages()]) == ([], [path])


def test_job_arrays_are_written_down_where_a_file_lies_in_the_place_of_their_folder(ledger: Ledger) -> None:
    folder = ledger.path / "batches"
    folder.write_text("a file")
    arrays = JobArrays(ledger.path)
    assert [damaged.path for damaged in arrays.damages()] == [folder]
    arrays.add([["0" * 12]])
    assert [array.tasks for array in arrays.all] == [[["0" * 12]]]


def test_a_lock_is_taken_where_a_file_lies_in_the_place_of_its_attempts(tmp_path: Path) -> None:
    claims = tmp_path / "sweeps" / "submitting"
    with writer_lock(claims):
        pass
    place = claims / "attempts"
    place.rename(tmp_path / "before")
    place.write_text("a file")
    with writer_lock(claims) as number:
        assert number == 1
    assert place.with_name("attempts.damaged-1").read_text() == "a file"


def test_a_file_in_the_place_of_an_attempt_holds_nobody_up(tmp_path: Path) -> None:
    record = Record.prepare(tmp_path / "runs", Cell())
    attempt = record.begin()
    shutil.rmtree(attempt.path)
    attempt.path.write_text("a file")
    assert (attempt.alive(), record.state()) == (False, "missing")
    assert record.begin().number == 2
