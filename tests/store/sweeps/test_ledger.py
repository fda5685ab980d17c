"""A sweep's ledger: who watches, what failed, and when no more cells start."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.store.signs_of_life import STALE_SECONDS
from harness.store.sweeps.ledger import Ledger, Policy


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path, "x.demo", Policy(max_failures=4, max_identical_failures=2))


def test_every_sweep_has_a_folder_of_its_own(tmp_path: Path) -> None:
    names = [Ledger.open(tmp_path, name, Policy()).path.name for name in ("x.demo", "x.demo", "x.demo.big", "x.demo")]
    assert names == ["x.demo.1", "x.demo.2", "x.demo.big.1", "x.demo.3"]


def test_it_is_alive_while_its_process_is_and_beats(ledger: Ledger) -> None:
    assert ledger.alive()
    old = time.time() - 2 * STALE_SECONDS
    os.utime(ledger.path / "heartbeat", (old, old))
    assert not ledger.alive()
    ledger.beat()
    assert ledger.alive()
    ledger.close()
    assert not ledger.alive()


def test_first_failures_that_are_alike_stop_it(ledger: Ledger) -> None:
    ledger.failed("a", "error", "RuntimeError: no room at step 12", final=True)
    assert ledger.stop_reason() == ""
    ledger.failed("b", "error", "RuntimeError: no room at step 7", final=True)
    assert "first 2 cells all failed alike" in ledger.stop_reason()


def test_once_a_cell_has_finished_likeness_does_not_matter(ledger: Ledger) -> None:
    ledger.finished("c")
    ledger.failed("a", "error", "x", final=True)
    ledger.failed("b", "error", "x", final=True)
    assert ledger.stop_reason() == ""


def test_so_many_failures_stop_it(ledger: Ledger) -> None:
    ledger.finished("z")
    for cell_id in "abcd":
        assert ledger.stop_reason() == ""
        ledger.failed(cell_id, "error", cell_id, final=True)
    assert "4 cells have failed (failures.max_failures is 4)" in ledger.stop_reason()


def test_a_failure_that_is_mended_or_forgiven_does_not_count(ledger: Ledger) -> None:
    for cell_id in "ab":
        ledger.failed(cell_id, "error", "x", final=True)
    ledger.clear_failure("a")
    assert ledger.stop_reason() == ""
    ledger.finished("b")
    assert ledger.failures() == []


def test_it_can_be_stopped_by_hand(ledger: Ledger) -> None:
    ledger.stop("enough")
    assert ledger.stop_reason() == "enough"
