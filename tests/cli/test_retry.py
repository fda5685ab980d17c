"""``harness retry``: what it says before anything runs."""

from __future__ import annotations

from harness.store.submission import Submission
from tests.support.results import Results, as_json, harness


def test_nothing_to_retry_is_no_error(results: Results) -> None:
    results.finish(results.cells[0])
    assert harness("retry", "tiny.demo", results=results.path) == (0, "None of these cells has failed.\n")
    assert as_json("retry", "tiny.demo", results=results.path) == []


def test_a_failed_cell_that_was_cancelled_in_the_queue_may_run_again(results: Results) -> None:
    record = results.fail(results.cells[0]).record
    record.submit(Submission())
    record.withdraw()
    assert record.withdrawn()
    record.submit(record.submission() or Submission())
    assert not record.withdrawn()
