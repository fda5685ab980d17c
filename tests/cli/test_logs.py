"""``harness logs``: one cell's words, as they come."""

from __future__ import annotations

import threading
import time

from harness.store.outcome import Outcome
from tests.support.results import Results, as_json, harness


def test_a_failed_cell(results: Results) -> None:
    first = results.begin(results.cells[0])
    first.end(Outcome("interrupted", cause="signal"))
    results.fail(results.cells[0])
    code, said = harness("logs", "loss=dcl seed=0", results=results.path)
    lines = said.splitlines()
    assert code == 0
    assert lines[0] == f"{results.cells[0].cell_id}  loss=dcl seed=0: failed"
    assert lines[1].startswith("attempt 1, process ")
    assert lines[1].endswith(": interrupted")
    assert lines[2].startswith("attempt 2, process ")
    assert lines[3:] == [
        "--- stdout", "said", "--- stderr", "warned", "--- failed: diverged: the loss is not finite"
    ]  # fmt: skip


def test_json(results: Results) -> None:
    results.fail(results.cells[0])
    (said,) = as_json("logs", "tiny.demo", results=results.path)
    assert (said["stdout"], said["stderr"], said["state"]) == ("said\n", "warned\n", "failed")
    assert [attempt["cause"] for attempt in said["attempts"]] == ["diverged"]


def test_what_was_never_begun_has_none(results: Results) -> None:
    assert harness("logs", "tiny.demo", results=results.path) == (0, "None of these cells was ever begun.\n")
    assert as_json("logs", "tiny.demo", results=results.path) == []


def test_following_goes_on_from_attempt_to_attempt(results: Results) -> None:
    cell = results.cells[0]
    first = results.begin(cell)

    def compute() -> None:
        time.sleep(0.3)
        with (first.path / "stdout.log").open("a") as log:
            log.write("more\n")
        first.fail("for now")
        time.sleep(0.6)
        results.finish(cell)

    thread = threading.Thread(target=compute)
    thread.start()
    code, said = harness("logs", cell.cell_id, "-f", results=results.path)
    thread.join()
    assert code == 0
    assert said.splitlines()[2:] == [
        "said", "warned", "more", "--- failed: error: for now",
        next(line for line in said.splitlines() if line.startswith("attempt 2")),
        "said", "warned", "--- finished",
    ]  # fmt: skip


def test_following_needs_one_cell(results: Results) -> None:
    results.fail(results.cells[0])
    code, said = harness("logs", "tiny.demo", "-f", results=results.path)
    assert (code, "4 cells cannot be followed" in said) == (2, True)
