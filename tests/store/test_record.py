"""Fencing, publishing and reading of records."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cell import Cell, Dataset
from harness.errors import DamagedFile, UserError
from harness.evaluation import Evaluation
from harness.files import read_json, write_json
from harness.store.heartbeat import Heartbeat
from harness.store.outcome import Outcome
from harness.store.progress import TrainingProgress
from harness.store.record import Attempt, Busy, Record, Superseded
from harness.store.signs_of_life import STALE_SECONDS

HEALTHY = Outcome("finished")


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record.prepare(tmp_path, Cell())


def begin_elsewhere(record: Record, *, then: str = "") -> int:
    """Begin an attempt in another process, which then ends; returns its process id."""
    code = f"from harness.store.record import *; a = Record(Path({str(record.path)!r})).begin(); {then}"
    process = subprocess.Popen([sys.executable, "-c", code])
    assert process.wait() == 0
    return process.pid


def age(attempt: Attempt) -> None:
    long_ago = time.time() - STALE_SECONDS - 10
    os.utime(attempt.path / "heartbeat", (long_ago, long_ago))


def test_a_new_record_is_missing_and_knows_its_cell(record: Record) -> None:
    assert (record.state(), record.cell()) == ("missing", Cell())


def test_a_running_cell_cannot_be_begun_again(record: Record) -> None:
    record.begin()
    assert record.state() == "running"
    with pytest.raises(Busy, match=f"process {os.getpid()}"):
        record.begin()


def test_a_process_that_is_gone_leaves_its_cell_to_the_next_at_once(record: Record) -> None:
    begin_elsewhere(record)
    assert record.state() == "missing"
    assert record.begin().number == 2


def test_a_silent_attempt_on_another_machine_is_dead_after_the_stated_time(record: Record) -> None:
    attempt = record.begin()
    write_json(attempt.path / "provenance.json", {**(read_json(attempt.provenance_file) or {}), "host": "elsewhere"})
    with pytest.raises(Busy):
        record.begin()
    age(attempt)
    assert record.begin().number == 2


def test_a_frozen_attempt_that_wakes_up_publishes_nothing(record: Record) -> None:
    frozen = record.begin()
    age(frozen)
    record.begin()
    with pytest.raises(Superseded):
        frozen.end(HEALTHY)
    assert record.outcome() is None


def test_only_the_first_finisher_is_published(record: Record) -> None:
    first = record.begin()
    first.end(replace(HEALTHY, metrics={"test_knn": 1.0}))
    second = Attempt(record, 2)
    second.path.mkdir()
    with pytest.raises(Superseded):
        second.end(replace(HEALTHY, metrics={"test_knn": 2.0}))
    outcome = record.outcome()
    assert outcome is not None
    assert outcome.metrics == {"test_knn": 1.0}
    assert record.state() == "finished"


@pytest.mark.parametrize(("ended", "state"), [("failed", "failed"), ("interrupted", "missing")])
def test_an_ended_attempt_can_be_followed_by_another(record: Record, ended: str, state: str) -> None:
    record.begin().end(Outcome(ended, error="x"))
    assert record.state() == state
    assert record.begin().number == 2


def test_a_finished_cell_is_not_begun_again(record: Record) -> None:
    record.begin().end(HEALTHY)
    with pytest.raises(Busy, match="already finished"):
        record.begin()


def test_a_record_of_another_cell_than_its_folder_says_is_refused(record: Record) -> None:
    record.path.rename(record.path.with_name("0123456789ab"))
    with pytest.raises(UserError, match="named after"):
        Record(record.path.with_name("0123456789ab")).cell()
    with pytest.raises(UserError, match="named after"):
        Record(record.path.with_name("absent")).cell()


def test_stray_files_among_the_attempts_do_no_harm(record: Record) -> None:
    (record.path / "attempts" / ".nfs0001").touch()
    assert record.state() == "missing"


def test_two_processes_that_begin_at_once_get_one_attempt(record: Record) -> None:
    code = (
        f"import time, sys; from harness.store.record import *; r = Record(Path({str(record.path)!r}))\n"
        "try: r.begin(); time.sleep(3)\n"
        "except Busy: sys.exit(75)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert sorted(process.wait() for process in processes) == [0, 75, 75, 75]


def test_events_of_later_attempts_win_and_torn_lines_are_ignored(record: Record) -> None:
    first = record.begin()
    first.log_event(1, {"loss": 3.0, "val_knn": 10.0})
    first.log_event(2, {"loss": 2.0})
    with (first.path / "events.jsonl").open("a") as file:
        file.write('{"time": 1, "step": 3, "met')
    first.end(Outcome("interrupted"))
    record.begin().log_event(2, {"loss": 1.5})
    found = [(event.step, event.metrics) for event in record.events()]
    assert found == [(1, {"loss": 3.0, "val_knn": 10.0}), (2, {"loss": 1.5})]


def test_the_heartbeat_carries_progress(record: Record) -> None:
    attempt = record.begin()
    with Heartbeat(attempt) as heartbeat:
        heartbeat.progress = TrainingProgress(3, 10, 0, 100.0)
        for _ in range(100):
            if attempt.progress():
                break
            time.sleep(0.1)
    assert attempt.progress() == TrainingProgress(3, 10, 0, 100.0)


def test_written_json_is_whole_or_absent(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    assert (read_json(tmp_path / "a.json"), read_json(tmp_path / "b.json")) == ({"a": 1}, None)
    assert os.listdir(tmp_path) == ["a.json"]


EVALUATION = Evaluation(knn_k=20, knn_temperature=0.07, penalty=1e-4)
PLAIN = Evaluation(knn_k=10, knn_temperature=None, linear="adam", linear_epochs=100)


def test_an_evaluation_is_found_that_came_with_the_outcome_or_was_added(record: Record) -> None:
    assert record.metrics(EVALUATION) is None
    record.begin().end(replace(HEALTHY, metrics={"test_knn": 50.0}, evaluation=EVALUATION))
    own = record.cell().dataset
    assert record.metrics(replace(EVALUATION, every=3)) == record.metrics(EVALUATION, own) == {"test_knn": 50.0}
    assert record.metrics(PLAIN) is None
    record.add_evaluation(PLAIN.key(own), {"metrics": {"test_knn": 60.0}})
    assert record.metrics(PLAIN) == {"test_knn": 60.0}
    assert record.metrics(EVALUATION) == {"test_knn": 50.0}
    assert record.metrics(PLAIN, Dataset("cifar10", 32, 0.1, "x")) is None


def test_the_evaluation_that_was_published_first_stands(record: Record) -> None:
    record.add_evaluation("abc", {"metrics": {"test_knn": 1.0}})
    record.add_evaluation("abc", {"metrics": {"test_knn": 2.0}})
    assert record.added_evaluation("abc") == {"metrics": {"test_knn": 1.0}}
    assert os.listdir(record.path / "evaluations") == ["abc.json"]


def test_a_finished_attempt_that_was_killed_before_its_publication_is_published_and_not_repeated(
    record: Record,
) -> None:
    attempt = record.begin()
    write_json(attempt.path / "outcome.json", {"attempt": 1, "state": "finished", "metrics": {}})
    with pytest.raises(Busy, match="already finished"):
        record.begin()
    assert record.outcome() == replace(HEALTHY, attempt=1)
    attempt.publish()  # the finisher itself comes to it only now, and is not told that somebody else was faster
    assert len(record.attempts()) == 1


@pytest.mark.parametrize("content", [b"\xff\xfe\x00garbage", b"[1]", b"", b"{", b"{}", b'{"state": "finished"}'])
def test_a_damaged_outcome_is_an_error_of_this_record_that_names_the_file(record: Record, content: bytes) -> None:
    attempt = record.begin()
    (attempt.path / "events.jsonl").write_bytes(content + b"\n{}\n")
    (record.path / "outcome.json").write_bytes(content)
    with pytest.raises(DamagedFile, match=f"{record.cell_id}/outcome.json: the file is damaged"):
        record.outcome()
    assert record.state() == "damaged"
    assert list(attempt.events()) == []


def test_a_file_that_only_tells_how_an_attempt_went_reads_as_empty_where_it_is_damaged(record: Record) -> None:
    attempt = record.begin()
    attempt.end(Outcome("failed", error="x"))
    for file in (attempt.provenance_file, attempt.outcome_file, attempt.heartbeat_file, attempt.stop_file):
        file.unlink(missing_ok=True)
        file.mkdir()
    assert (attempt.provenance().process.host, attempt.outcome(), attempt.progress()) == (None, None, None)
    assert attempt.stop_requested() == ""
