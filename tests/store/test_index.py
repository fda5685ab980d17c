"""The index answers what the records say, whatever it remembers."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.cell import Cell, Dataset, Loss, versionless_id
from harness.evaluation import Evaluation
from harness.files import cache_folder, write_json
from harness.store.index import FORMAT, Index, Summary
from harness.store.outcome import Outcome
from harness.store.provenance import ComputeEnvironment, Provenance
from harness.store.record import Attempt, Record, Superseded
from harness.store.signs_of_life import STALE_SECONDS
from harness.store.submission import Submission
from harness.store.sweeps.ledger import Ledger, Policy

EVALUATION = Evaluation()
ENVIRONMENT = ComputeEnvironment(revision="0" * 40, dirty=False, hardware="a processor", threads=1)
OUTCOME = Outcome("finished", metrics={"test_knn": 50.0}, evaluation=Evaluation())


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "results" / "runs"


def finish(record: Record) -> Attempt:
    attempt = record.begin(Provenance(environment=ENVIRONMENT))
    attempt.log_event(0, {"val_knn": 30.0})
    attempt.log_event(9, {"val_knn": 40.0, "loss": 1.0})
    attempt.end(OUTCOME)
    return attempt


def pass_time(runs: Path, seconds: float = 10) -> None:
    """As if what was written just now had been written longer ago; heartbeats stay."""
    for folder, _, _ in os.walk(runs):
        changed = os.stat(folder).st_mtime
        if time.time() - changed < seconds:
            os.utime(folder, (changed - seconds, changed - seconds))


def remembered(runs: Path) -> set[str]:
    (file,) = (cache_folder() / "records").glob("*.json")
    return set(json.loads(file.read_text())["records"])


def test_a_finished_record(runs: Path) -> None:
    record = Record.prepare(runs, Cell())
    finish(record)
    found = Index(runs)[record.cell_id]
    assert (found.state, found.attempts, found.attempt, found.val_knn) == ("finished", 1, 1, 40.0)
    assert found.outcome == replace(OUTCOME, attempt=1)
    assert found.last
    assert found.last.metrics["loss"] == 1.0
    assert found.conditions.hardware == "a processor"
    assert (found.cell, found.versionless_id) == (asdict(Cell()), versionless_id(Cell()))


def test_a_cell_without_a_record_is_missing(runs: Path) -> None:
    assert Index(runs)["0" * 12] == Summary("0" * 12)
    assert Index(runs).cell_ids() == []


def test_a_failed_record_says_why(runs: Path) -> None:
    record = Record.prepare(runs, Cell())
    record.begin().fail("too large", "diverged")
    index = Index(runs)
    assert (index[record.cell_id].state, index[record.cell_id].error, index[record.cell_id].cause) == (
        "failed", "too large", "diverged"
    )  # fmt: skip
    assert index.last_attempt(record.cell_id) == Attempt(record, 1)


def test_values_at_paths_and_defaults_of_fields_that_came_later(runs: Path) -> None:
    record = Record.prepare(runs, Cell(loss=Loss("dcl", own={"margin": 2.0})))
    content = json.loads((record.path / "cell.json").read_text())
    del content["bn_groups"]
    write_json(record.path / "cell.json", content)
    found = Index(runs)[record.cell_id]
    assert [found.value(path) for path in ("loss.name", "loss.own.margin", "bn_groups", "loss.own.other", "no")] == [
        "dcl", 2.0, 1, None, None
    ]  # fmt: skip


def test_a_damaged_cell_has_a_state_and_no_kin(runs: Path) -> None:
    record = Record.prepare(runs, Cell(seed=1))
    finish(record)
    (record.path / "cell.json").write_text("{")
    found = Index(runs)[record.cell_id]
    assert (found.state, found.versionless_id, found.cell) == ("finished", "", {})


def test_only_folders_of_cells_are_listed(runs: Path) -> None:
    record = Record.prepare(runs, Cell())
    (runs / ".import-1").mkdir()
    (runs / "notes").mkdir()
    assert Index(runs).cell_ids() == [record.cell_id]


def test_a_cell_is_queued_while_the_sweep_that_submitted_it_is_alive(runs: Path) -> None:
    record, ledger = Record.prepare(runs, Cell()), Ledger.open(runs.parent, "x.demo", Policy())
    index = Index(runs)

    def state() -> str:
        index.refresh()
        return index[record.cell_id].state

    record.submit(Submission(sweep=ledger.path.name))
    assert state() == "queued"
    record.withdraw()
    assert state() == "missing"
    record.begin().fail("for now")
    assert state() == "failed"
    record.submit(Submission(sweep=ledger.path.name))
    assert state() == "queued"
    ledger.close()
    assert state() == "failed"


def test_a_cell_of_another_version_is_stale(runs: Path) -> None:
    old, new = Cell(versions={"loss": 1}), Cell(versions={"loss": 2})
    finish(Record.prepare(runs, old))
    index = Index(runs)
    assert index.finished_with_other_version(versionless_id(new)) == [old.cell_id]
    assert index.state_of(new.cell_id, versionless_id(new)) == "stale"
    assert index.state_of(old.cell_id, versionless_id(old)) == "finished"
    other = replace(new, seed=1)
    assert index.state_of(other.cell_id, versionless_id(other)) == "missing"


def test_a_failed_cell_of_another_version_makes_nothing_stale(runs: Path) -> None:
    Record.prepare(runs, Cell(versions={"loss": 1})).begin().fail("bad")
    new = Cell(versions={"loss": 2})
    assert Index(runs).state_of(new.cell_id, versionless_id(new)) == "missing"


def test_metrics_are_those_of_the_record(runs: Path) -> None:
    record = Record.prepare(runs, Cell())
    finish(record)
    other, elsewhere = replace(EVALUATION, knn_k=200), Dataset("fashion_mnist")
    record.add_evaluation(other.key(record.cell().dataset), {"metrics": {"test_knn": 60.0}})
    index = Index(runs)
    for wanted in (EVALUATION, other, replace(EVALUATION, knn_k=1)):
        for on in (None, record.cell().dataset, elsewhere):
            assert index.metrics(record.cell_id, wanted, on) == record.metrics(wanted, on)
    assert index.metrics("0" * 12, other) is None


def test_what_has_settled_is_not_opened_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record.prepare(runs, Cell())
    finish(record)
    pass_time(runs)
    index = Index(runs)
    before = index[record.cell_id]
    index.remember()

    def refuse(*_: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(Record, "outcome", refuse)
    monkeypatch.setattr(Attempt, "events", refuse)
    assert Index(runs)[record.cell_id] == before


def test_what_changed_just_now_or_may_change_is_not_remembered(runs: Path) -> None:
    finished, running, failed, fresh = (Record.prepare(runs, Cell(seed=seed)) for seed in range(4))
    finish(finished)
    running.begin()
    failed.begin().fail("bad")
    pass_time(runs)
    finish(fresh)
    index = Index(runs)
    assert [index[record.cell_id].state for record in (running, fresh)] == ["running", "finished"]
    for cell_id in index.cell_ids():
        assert index[cell_id]
    index.remember()
    assert remembered(runs) == {finished.cell_id, failed.cell_id}


def test_a_damaged_or_foreign_memory_is_none(runs: Path) -> None:
    record = Record.prepare(runs, Cell())
    finish(record)
    pass_time(runs)
    index = Index(runs)
    wanted = index[record.cell_id]
    index.remember()
    (file,) = (cache_folder() / "records").glob("*.json")
    whole = file.read_bytes()
    damages = [whole[:-20], b"", b"\xff\xfe", b"[]", b'{"format": ["0"], "records": {"x": 1}}']
    damages += [json.dumps({"format": FORMAT, **more}).encode() for more in ({}, {"records": 5}, {"records": [5]})]
    for damaged in damages:
        file.write_bytes(damaged)
        assert Index(runs)[record.cell_id] == wanted
    file.write_bytes(whole)
    assert Index(runs)[record.cell_id] == wanted


def test_a_number_that_has_changed_in_the_memory_is_not_believed(runs: Path) -> None:
    record = Record.prepare(runs, Cell())
    finish(record)
    pass_time(runs)
    index = Index(runs)
    assert index.metrics(record.cell_id, EVALUATION) == {"test_knn": 50.0}
    index.remember()
    (file,) = (cache_folder() / "records").glob("*.json")
    whole = file.read_text()
    for damaged in (whole.replace("50.0", "70.0"), whole.replace('"records": {', '"recerds": {'), "5"):
        assert damaged != whole
        file.write_text(damaged)
        assert Index(runs).metrics(record.cell_id, EVALUATION) == {"test_knn": 50.0}


def test_a_cache_that_cannot_be_written_costs_nothing(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record.prepare(runs, Cell())
    finish(record)
    pass_time(runs)
    blocked = runs.parent / "a file"
    blocked.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    index = Index(runs)
    assert index[record.cell_id].state == "finished"
    index.remember()


def test_records_that_are_gone_are_forgotten(runs: Path) -> None:
    one, two = (Record.prepare(runs, Cell(seed=seed)) for seed in range(2))
    pass_time(runs)
    for _ in range(2):
        index = Index(runs)
        assert all(index[cell_id].state == "missing" for cell_id in index.cell_ids())
        index.remember()
        shutil.rmtree(two.path, ignore_errors=True)
    assert remembered(runs) == {one.cell_id}


# Whatever happens to records, an index with a memory says what one without says.


def last(record: Record) -> Attempt | None:
    attempts = record.attempts()
    return attempts[-1] if attempts else None


def end(record: Record, outcome: Outcome) -> None:
    if attempt := last(record):
        with suppress(Superseded):
            attempt.end(outcome)


def begin(record: Record) -> None:
    """Anew, whoever holds it: as after a death."""
    number = getattr(last(record), "number", 0) + 1
    (record.path / "attempts" / str(number)).mkdir(parents=True, exist_ok=True)
    write_json(Attempt(record, number).path / "provenance.json", {"host": "elsewhere", "boot": "", "threads": number})


def log(record: Record) -> None:
    """Nothing after its end: whoever writes an attempt's events writes its outcome last, and then leaves it."""
    attempt = last(record)
    if attempt and attempt.outcome() is None:
        attempt.log_event(sum(1 for _ in attempt.events()), {"val_knn": float(attempt.number)})


def fall_silent(record: Record) -> None:
    if attempt := last(record):
        (attempt.path / "heartbeat").touch()
        long_ago = time.time() - STALE_SECONDS - 10
        os.utime(attempt.path / "heartbeat", (long_ago, long_ago))


def lose_the_last_attempt(record: Record) -> None:
    if attempt := last(record):
        shutil.rmtree(attempt.path)


ACTIONS: dict[str, Callable[[Record], object]] = {
    "begin": begin,
    "log": log,
    "finish": lambda record: end(record, OUTCOME),
    "fail": lambda record: end(record, Outcome("failed", cause="error", error="bad")),
    "interrupt": lambda record: end(record, Outcome("interrupted", cause="signal")),
    "fall silent": fall_silent,
    "submit": lambda record: record.submit(Submission(sweep="x.demo.1")),
    "withdraw": lambda record: record.withdraw(),
    "lose the last attempt": lose_the_last_attempt,
    "lose all": lambda record: shutil.rmtree(record.path),
    "nothing": lambda record: None,
}


def observed(runs: Path) -> list[Summary]:
    index = Index(runs)
    found = [index[cell_id] for cell_id in index.cell_ids()]
    index.remember()
    return found


@pytest.mark.e2e
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([("begin", 0, True), ("fail", 0, True), ("interrupt", 0, True)])
@example([("begin", 0, False), ("log", 0, False), ("fail", 0, True), ("log", 0, False)])
@example([("begin", 0, True), ("log", 0, True), ("log", 0, True), ("fall silent", 0, True), ("log", 0, True)])
@given(st.lists(st.tuples(st.sampled_from(sorted(ACTIONS)), st.integers(0, 1), st.booleans()), max_size=12))
def test_a_memory_changes_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happened: list[tuple[str, int, bool]]
) -> None:
    results = Path(tempfile.mkdtemp(dir=tmp_path))
    runs, ledger = results / "runs", Ledger.open(results, "x.demo", Policy())
    for action, seed, long_ago in happened:
        ACTIONS[action](Record.prepare(runs, Cell(seed=seed)))
        if long_ago:
            pass_time(runs)
        ledger.beat()
        with_memory = observed(runs)
        with monkeypatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(results / "another cache"))
            shutil.rmtree(results / "another cache", ignore_errors=True)
            assert with_memory == observed(runs)
