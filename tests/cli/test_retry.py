"""``harness retry``: what it says before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import DamagedFile
from harness.store.submission import Allocation, Submission
from harness.store.sweeps.ledger import Ledger, Policy
from harness.sweep.cluster import cluster_of
from tests.support.results import Results, as_json, harness
from tests.support.ways_of_damage import WAYS


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


@pytest.mark.parametrize("way", WAYS)
def test_a_cell_of_a_cluster_is_not_trained_here_because_its_ledger_is_damaged(
    results: Results, way: Callable[[Path], None]
) -> None:
    record = results.fail(results.cells[0]).record
    ledger = Ledger.open(results.path, "tiny.demo", Policy(), cluster={"scheduler": "slurm"})
    record.submit(Submission(allocation=Allocation(1, 10, 0), sweep=ledger.path.name))
    assert cluster_of(record)
    way(ledger.path / "sweep.json")
    if way.__name__ == "flipped":
        assert list(ledger.damages())
    with pytest.raises(DamagedFile, match="to which cluster"):
        cluster_of(record)
    code, said = harness("retry", "tiny.demo", "--yes", results=results.path)
    assert (code, said) == (0, "None of these cells has failed.\n")
