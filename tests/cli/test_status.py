"""``harness status``: what it says of cells in every state."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cell import Cell, Loss
from harness.files import write_json
from harness.manifest import Exclusion
from harness.store.outcome import Outcome
from tests.support.results import METRICS, Results, another_seed, as_json, harness

PROGRESS = {"step": 30, "steps": 40, "epoch": 2, "rate": 256.0}


def shown(results: Results, *words: str) -> str:
    code, printed = harness("status", *words, results=results.path)
    assert code == 0
    return printed


def test_nothing_has_been_swept(tmp_path: Path) -> None:
    code, printed = harness("status", results=tmp_path)
    assert (code, "No experiment has been swept" in printed) == (0, True)


def test_counts_by_state_and_what_runs_and_failed(results: Results) -> None:
    finished, failed, running, queued = results.cells
    results.finish(finished)
    attempt = results.fail(failed)
    at_work = results.begin(running)
    at_work.log_event(20, {"val_knn": 35.0, "loss": 2.5}, epoch=2)
    write_json(at_work.path / "heartbeat", PROGRESS)
    results.queue(queued)
    said = shown(results)
    assert "tiny.demo: 4 cells: 1 queued, 1 running, 1 finished, 1 failed" in said
    assert f"running   {running.cell_id}  loss=infonce seed=0" in said
    assert "epoch 3 of 4, loss 2.500, 256 samples/s, 10 seconds left, on " in said
    assert f"failed    {failed.cell_id}  loss=dcl seed=1" in said
    assert "diverged: the loss is not finite" in said
    assert f"log: {attempt.path / 'stderr.log'}" in said
    assert "sweep tiny.demo.1 goes on, on " in said
    assert finished.cell_id not in said


def test_json_has_every_cell(results: Results) -> None:
    results.finish(results.cells[0])
    results.fail(results.cells[1])
    (experiment,) = as_json("status", results=results.path)
    assert experiment["counts"] == {"finished": 1, "failed": 1, "missing": 2}
    assert [cell["state"] for cell in experiment["cells"]] == ["finished", "failed", "missing", "missing"]
    assert experiment["cells"][0]["metrics"] == METRICS
    assert experiment["cells"][1]["cause"] == "diverged"
    assert {tuple(cell) for cell in experiment["cells"]} == {
        ("cell_id", "name", "state", "attempts", "ends", "host", "job", "waits", "held", "progress", "cause", "error",
         "log", "collapsed", "metrics", "seconds", "damaged", "silence")
    }  # fmt: skip


def test_every_chosen_cell_is_listed_whatever_its_state(results: Results) -> None:
    results.finish(results.cells[0])
    said = shown(results, "loss=dcl")
    assert f"finished  {results.cells[0].cell_id}  seed=0: kNN 50.00 %, 60 seconds" in said
    assert f"missing   {results.cells[1].cell_id}  seed=1" in said


def test_many_failures_are_cut_and_it_says_how_to_see_them_all(results: Results) -> None:
    cells = [Cell(seed=seed) for seed in range(12)]
    results.declare("many", cells)
    for cell in cells:
        results.fail(cell)
    said = shown(results, "many.demo")
    assert said.count("log: ") == 10
    assert f"and 2 more: harness status many.demo state=failed --results {results.path}" in said
    assert shown(results, "many.demo", "state=failed").count("log: ") == 12


def test_stopped_sweeps_say_why(results: Results) -> None:
    ledger = results.queue(results.cells[0])
    ledger.stop("they all failed alike")
    ledger.close()
    assert "sweep tiny.demo.1 was stopped: they all failed alike" in shown(results)
    results.queue(results.cells[0])
    assert "stopped" not in shown(results), "the next one counts"


def test_collapsed_cells(results: Results) -> None:
    attempt = results.begin(results.cells[0])
    attempt.log_event(20, {"uniformity": -0.004}, epoch=4)
    assert f"collapsed {results.cells[0].cell_id}  loss=dcl seed=0: embeddings are nearly one point" in shown(results)
    assert "collapsed" not in shown(results, "tiny.demo", "collapsed=false")
    (experiment,) = as_json("status", "collapsed=true", results=results.path)
    assert [cell["cell_id"] for cell in experiment["cells"]] == [results.cells[0].cell_id]


def test_cells_that_were_left_out_stay_visible(results: Results) -> None:
    results.declare("tiny", results.cells, exclusions=[Exclusion("loss=vicreg", "it diverges", 2)])
    assert "left out on purpose: loss=vicreg, 2 cells: it diverges" in shown(results)
    results.declare("tiny", results.cells, exclusions=[Exclusion("loss=vicreg", "it diverges", 1)])
    assert "left out on purpose: loss=vicreg, 1 cell: it diverges" in shown(results)


def test_records_of_no_experiment_have_a_place(results: Results) -> None:
    results.finish(another_seed(results.cells[0]))
    results.finish(replace(results.cells[0], loss=Loss("barlow_twins")))
    assert "of no experiment: 2 cells: 2 finished" in shown(results)
    assert "of no experiment" not in shown(results, "tiny.demo")


def test_it_changes_nothing(results: Results) -> None:
    results.fail(results.cells[0])
    before = {path: path.stat().st_mtime_ns for path in results.path.rglob("*")}
    shown(results)
    assert {path: path.stat().st_mtime_ns for path in results.path.rglob("*")} == before


def test_a_changed_record_is_seen(results: Results) -> None:
    results.fail(results.cells[0])
    assert "1 failed" in shown(results)
    shutil.rmtree(results.path / "runs" / results.cells[0].cell_id)
    assert "4 missing" in shown(results)


def test_watching_ends_when_nothing_is_queued_or_runs(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.cli.status.REFRESH_SECONDS", 0.05)
    attempt = results.begin(results.cells[0])
    ended = threading.Event()

    def end() -> None:
        time.sleep(0.3)  # some refreshes
        ended.set()
        attempt.end(Outcome("interrupted", cause="signal"))

    with ThreadPoolExecutor() as other:
        ending = other.submit(end)
        said = shown(results, "--watch")
        assert ended.is_set()
        ending.result()
    assert "4 missing" in said


def test_watching_as_json_is_refused(results: Results) -> None:
    code, said = harness("status", "--watch", "--json", results=results.path)
    assert (code, "one of them" in said) == (2, True)
