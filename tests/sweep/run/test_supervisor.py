"""What a sweep does when cells fail, are killed, run elsewhere, or it is told to stop: processes without training."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from harness.cell import Cell
from harness.environment.process import ProcessIdentity
from harness.store.maintenance.repair import repair
from harness.store.outcome import Outcome
from harness.store.provenance import Provenance
from harness.store.record import Attempt, Record
from harness.store.signs_of_life import STALE_SECONDS
from harness.store.submission import Submission
from harness.store.sweeps.ledger import Ledger, Policy
from harness.sweep.run import supervisor as module
from harness.sweep.run.local_scheduler import LocalScheduler
from harness.sweep.run.retry import KILLS
from harness.sweep.run.slots import Slots
from harness.sweep.run.supervisor import Stopped, Task, TaskState, supervise

WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))


class Bench:
    """A folder of records and what each of its cells does."""

    def __init__(self, results: Path) -> None:
        self.results = results

    def cell(self, seed: int) -> Cell:
        return Cell(seed=seed)

    def record(self, seed: int) -> Record:
        return Record(self.results / "runs" / self.cell(seed).cell_id)

    def tasks(self, acts: Mapping[int, list[str]], deaf: bool = False) -> list[Task]:
        cells = {self.cell(seed).cell_id: todo for seed, todo in acts.items()}
        self.results.mkdir(parents=True, exist_ok=True)
        (self.results / "acts.json").write_text(json.dumps({"deaf": deaf, "cells": cells}))
        submission = Submission(experiment="x")
        return [Task(self.record(seed), self.cell(seed), f"seed={seed}", submission) for seed in acts]

    def run(self, acts: Mapping[int, list[str]], slots: int = 2, **policy: Any) -> dict[str, str]:
        """What became of every cell, by name."""
        self.ledger = Ledger.open(self.results, "x.demo", Policy(**policy))
        scheduler = LocalScheduler(Slots(slots, 1, "cpu"), worker=WORKER)
        said: list[TaskState] = []
        with closing(scheduler):
            watched = supervise(self.tasks(acts), scheduler, self.ledger, lambda ended, _: said.extend(ended))
        names = [sorted(item.task.name for item in some) for some in (said, watched)]
        assert names[0] == names[1], "each is said once"
        return {item.task.name: item.ended for item in watched}


def cause(attempt: Attempt) -> str:
    outcome = attempt.outcome()
    assert outcome
    return outcome.cause


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "results")


def test_one_bad_cell_does_not_stop_the_others(bench: Bench) -> None:
    ended = bench.run({0: ["ok"], 1: ["error: bad"], 2: ["ok"], 3: ["ok"]})
    assert ended == {"seed=0": "finished", "seed=1": "FAILED: error: bad", "seed=2": "finished", "seed=3": "finished"}
    assert [failure.error for failure in bench.ledger.failures()] == ["error: bad"]


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (1, 2), (3, 4)])
def test_an_error_is_tried_again_as_often_as_declared(bench: Bench, retries: int, attempts: int) -> None:
    bench.run({0: ["ok"], 1: ["error: bad"]}, slots=1, retries=retries)
    assert len(bench.record(1).attempts()) == attempts


def test_a_retry_that_succeeds_clears_the_ledger(bench: Bench) -> None:
    assert bench.run({0: ["error: once", "ok"]}) == {"seed=0": "finished"}
    assert bench.ledger.failures() == []


def test_divergence_is_not_tried_again(bench: Bench) -> None:
    assert bench.run({0: ["diverged", "ok"]}) == {"seed=0": "FAILED: diverged"}
    assert len(bench.record(0).attempts()) == 1


def test_kills_are_free(bench: Bench) -> None:
    assert bench.run({0: ["kill", "kill", "kill", "ok"]}, retries=0) == {"seed=0": "finished"}
    assert len(bench.record(0).attempts()) == 4


def test_a_cell_that_is_always_killed_at_the_same_place_is_given_up(bench: Bench) -> None:
    assert bench.run({0: ["kill"]}) == {"seed=0": f"FAILED: killed by SIGKILL, {KILLS} times at the same step"}
    attempts = bench.record(0).attempts()
    assert len(attempts) == KILLS
    assert cause(attempts[-1]) == "killed"


def test_a_kill_for_lack_of_memory_is_not_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = iter(range(100))
    monkeypatch.setattr(module, "out_of_memory_kills", lambda: next(counter))
    assert bench.run({0: ["kill", "ok"]}) == {"seed=0": "FAILED: killed by SIGKILL for lack of memory"}
    assert cause(bench.record(0).attempts()[-1]) == "out_of_memory"


def test_a_crash_is_an_error(bench: Bench) -> None:
    assert bench.run({0: ["segfault"]}) == {"seed=0": "FAILED: killed by SIGSEGV"}
    assert len(bench.record(0).attempts()) == 2


def test_a_process_that_ends_itself_without_a_word_is_an_error(bench: Bench) -> None:
    ended = bench.run({0: ["quit"], 1: ["ok"]}, slots=1)
    assert ended == {"seed=0": "FAILED: the process ended by itself with exit code 3", "seed=1": "finished"}
    assert len(bench.record(0).attempts()) == 2


def test_retries_come_before_max_failures(bench: Bench) -> None:
    assert bench.run({0: ["error: once", "ok"]}, max_failures=1) == {"seed=0": "finished"}


def test_a_holder_that_only_seems_dead_is_not_asked_all_the_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's clock is ahead of the file system's: the state says missing, and beginning says busy."""
    record = Record.prepare(bench.results / "runs", bench.cell(0))
    held = record.begin(Provenance(process=ProcessIdentity("another", "another", 1, "1")))
    monkeypatch.setattr(module, "HELD_SECONDS", 0.3)
    real = Record.state
    monkeypatch.setattr(Record, "state", lambda self: "missing" if real(self) == "running" else real(self))
    submitted = []
    keep = Record.submit
    monkeypatch.setattr(Record, "submit", lambda self, submission: submitted.append(1) or keep(self, submission))

    def finish() -> None:
        time.sleep(2)
        held.end(Outcome("finished", metrics={}))

    other = in_the_background(finish)
    assert bench.run({0: ["error: must not run"]}) == {"seed=0": "finished"}
    other.join()
    assert len(submitted) < 10


def test_a_cell_that_cannot_begin_fails_with_its_words(bench: Bench) -> None:
    assert bench.run({0: ["refuse"]}) == {"seed=0": "FAILED: this cell cannot begin"}


def test_when_the_first_cells_fail_alike_the_sweep_stops_early(bench: Bench) -> None:
    acts = {seed: [f"error: no file /data/{seed}"] for seed in range(20)}
    ended = bench.run(acts, slots=1, retries=0, max_identical_failures=3)
    assert list(ended.values()).count("not started") == 17
    assert "the first 3 cells all failed alike: error: no file /data/" in bench.ledger.stop_reason()


def test_failures_that_differ_do_not_stop_a_sweep(bench: Bench) -> None:
    acts = {seed: [f"error: {word}"] for seed, word in enumerate("abcde")}
    assert "not started" not in bench.run(acts, slots=1, retries=0, max_identical_failures=3).values()


def test_a_finished_cell_keeps_a_sweep_going(bench: Bench) -> None:
    acts = {0: ["ok"], **{seed: ["error: bad"] for seed in range(1, 8)}}
    assert "not started" not in bench.run(acts, slots=1, retries=0, max_identical_failures=3).values()


def test_no_cell_starts_after_max_failures(bench: Bench) -> None:
    acts = {seed: ["ok"] if seed == 0 else [f"error: {'abcdef'[seed]}"] for seed in range(6)}
    ended = bench.run(acts, slots=1, retries=0, max_failures=2)
    assert list(ended.values()).count("not started") == 3


def in_the_background(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def test_a_cell_that_another_sweep_computes_is_waited_for(bench: Bench) -> None:
    record = Record.prepare(bench.results / "runs", bench.cell(0))
    elsewhere = record.begin()

    def finish() -> None:
        wait_until(lambda: bench.record(1).outcome())
        elsewhere.end(Outcome("finished", metrics={}))

    other = in_the_background(finish)
    assert bench.run({0: ["error: must not run here"], 1: ["ok"]}) == {"seed=0": "finished", "seed=1": "finished"}
    other.join()


def test_a_dead_holder_is_superseded(bench: Bench) -> None:
    record = Record.prepare(bench.results / "runs", bench.cell(0))
    dead = record.begin(Provenance(process=ProcessIdentity("another", "another", 1, "1")))

    def age() -> None:
        wait_until(lambda: bench.record(1).outcome())
        old = time.time() - 2 * STALE_SECONDS
        os.utime(dead.path / "heartbeat", (old, old))

    other = in_the_background(age)
    assert set(bench.run({0: ["ok"], 1: ["ok"]}).values()) == {"finished"}
    other.join()
    outcome = record.outcome()
    assert outcome
    assert outcome.attempt == 2


def test_a_cancelled_cell_is_left_alone(bench: Bench) -> None:
    def cancel() -> None:
        wait_until(lambda: bench.record(0).attempts() and bench.record(0).attempts()[0].provenance().process.pid)
        bench.record(1).withdraw()
        attempt = bench.record(0).attempts()[0]
        attempt.request_stop("cancelled")
        os.kill(attempt.provenance().process.pid, signal.SIGTERM)

    other = in_the_background(cancel)
    assert bench.run({0: ["nap"], 1: ["ok"]}, slots=1) == {"seed=0": "cancelled", "seed=1": "cancelled"}
    other.join()


def test_a_preempted_cell_goes_on(bench: Bench) -> None:
    def preempt() -> None:
        wait_until(lambda: bench.record(0).attempts() and bench.record(0).attempts()[0].provenance().process.pid)
        os.kill(bench.record(0).attempts()[0].provenance().process.pid, signal.SIGTERM)

    other = in_the_background(preempt)
    assert bench.run({0: ["nap", "ok"]}, retries=0) == {"seed=0": "finished"}
    other.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_in_order(bench: Bench, number: signal.Signals) -> None:
    def stop() -> None:
        wait_until(lambda: bench.record(0).attempts() and bench.record(0).attempts()[0].provenance().process.pid)
        os.kill(os.getpid(), number)

    other = in_the_background(stop)
    with pytest.raises(Stopped, match="what it did is in its checkpoints"):
        bench.run({0: ["nap"], 1: ["ok"]}, slots=1)
    other.join()
    assert cause(bench.record(0).attempts()[0]) == "signal"
    assert bench.record(1).attempts() == [], "no new cells"


def test_stopping_before_anything_runs_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal at any line is counted: here while the first cell is being submitted."""
    keep = Record.submit

    def interrupted(record: Record, submission: Submission) -> Submission:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return keep(record, submission)

    monkeypatch.setattr(Record, "submit", interrupted)
    with pytest.raises(Stopped, match=r"nothing was running|at once"):
        bench.run({0: ["nap"]}, slots=1)


def test_signals_are_as_they_were_after_a_sweep(bench: Bench) -> None:
    before = signal.getsignal(signal.SIGINT)
    bench.run({0: ["ok"]})
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_everything_now(bench: Bench) -> None:
    ledger = Ledger.open(bench.results, "x.demo", Policy())
    scheduler = LocalScheduler(Slots(1, 1, "cpu"), worker=WORKER)

    def stop_twice() -> None:
        wait_until(lambda: bench.record(0).attempts() and bench.record(0).attempts()[0].provenance().process.pid)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)

    other = in_the_background(stop_twice)
    begun = time.monotonic()
    with pytest.raises(Stopped, match="at once"):
        supervise(bench.tasks({0: ["stubborn"]}, deaf=True), scheduler, ledger, lambda ended, running: None)
    other.join()
    assert time.monotonic() - begun < 20
    wait_until(lambda: bench.record(0).state() == "missing")


def test_two_sweeps_at_once_run_no_cell_twice(bench: Bench) -> None:
    """Each in a process of its own, over one folder."""
    acts = {seed: ["ok"] for seed in range(30)}
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            code = 1
            with suppress(BaseException):
                code = 0 if set(bench.run(acts).values()) == {"finished"} else 1
            os._exit(code)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    assert all(len(bench.record(seed).attempts()) == 1 for seed in acts)


def test_a_record_that_may_not_be_repaired_fails_by_name_and_the_others_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = bench.record(0).path

    def refuse(record: Record, cell: Cell) -> list[Path]:
        if record.path == refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(refused / "outcome.json"))
        return repair(record, cell)

    monkeypatch.setattr("harness.sweep.run.scheduler.repair", refuse)
    ended = bench.run({0: ["ok"], 1: ["ok"]})
    assert ended["seed=0"].startswith(f"FAILED: {refused / 'outcome.json'}: Permission denied; next: chmod"), ended
    assert ended["seed=1"] == "finished"
