"""A submission has the keys in its file that it always had, and is read where any of them is absent."""

from __future__ import annotations

import pytest

from harness.evaluation import Evaluation
from harness.store.outcome import Outcome
from harness.store.submission import Allocation, RunConfig, Submission

KEYS = {
    "experiment", "scale", "threads", "device", "compile", "plugins", "root", "evaluation", "world_size",
    "micro_batch", "memory", "sources", "nodes", "time", "grace", "stage", "sweep", "batch", "submitted",
    "attempts_before", "withdrawn",
}  # fmt: skip
FULL = Submission(
    RunConfig(
        threads=2,
        device="cuda",
        root="/images",
        evaluation=Evaluation(knn_k=5),
        compile=True,
        plugins=("own.py",),
        world_size=4,
        micro_batch=64,
        memory=2**30,
        source_hash="0" * 12,
    ),
    Allocation(nodes=2, minutes=60.0, grace_seconds=90, stage_folder="$TMPDIR"),
    experiment="x",
    scale="demo",
    sweep="x.demo.1",
    batch=3,
    submitted_at=1.0,
    attempts_before=0,
    withdrawn_at=2.0,
)


def test_a_submission_is_read_as_it_was_written_under_the_keys_of_always() -> None:
    assert FULL.to_json().keys() == KEYS
    assert Submission.from_json(FULL.to_json()) == FULL


def test_every_key_may_be_absent() -> None:
    assert Submission.from_json({}) == Submission()
    for key in KEYS:
        content = {name: value for name, value in FULL.to_json().items() if name != key}
        assert isinstance(Submission.from_json(content), Submission), key
    assert Submission.from_json({"threads": 2}).allocation is None


def test_what_no_scheduler_was_asked_for_is_not_written() -> None:
    local = {
        "nodes",
        "time",
        "grace",
        "stage",
        "sources",
        "sweep",
        "batch",
        "submitted",
        "attempts_before",
        "withdrawn",
    }
    assert not local & Submission(experiment="x", scale="demo").to_json().keys()


def test_an_outcome_has_the_keys_of_its_state() -> None:
    failed, stopped = Outcome("failed", attempt=1, error="x"), Outcome("interrupted", attempt=1, cause="signal")
    assert failed.to_json() == {"attempt": 1, "state": "failed", "error": "x", "cause": ""}
    assert stopped.to_json() == {"attempt": 1, "state": "interrupted", "cause": "signal"}
    finished = Outcome("finished", attempt=1, metrics={"test_knn": 1.0}, evaluation=Evaluation(), joules={"gpu": 2.0})
    assert Outcome.from_json(finished.to_json()) == finished
    with pytest.raises(KeyError):
        Outcome.from_json({})
