"""The scheduler of this machine: never more at once than slots and memory allow; cancelled jobs stop or never start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.cell import Cell
from harness.environment import gpus
from harness.environment.cpu import cores
from harness.environment.gpus import Gpu
from harness.errors import UserError
from harness.store.record import Record
from harness.store.submission import RunConfig, Submission
from harness.sweep.run import slots
from harness.sweep.run.local_scheduler import LocalScheduler
from harness.sweep.run.scheduler import Job, JobState, WatchedScheduler
from harness.sweep.run.slots import Slots, divide

#: A worker that sleeps for a record; a record named "fail" fails, and a SIGTERM ends the nap.
SLEEPER = """
import json, os, signal, sys, time
class Woken(Exception): pass
def wake(*_): raise Woken
signal.signal(signal.SIGTERM, wake)
for line in sys.stdin:
    record = json.loads(line)["record"]
    try:
        time.sleep({seconds})
    except Woken:
        pass
    code = 1 if record.endswith("fail") else 0
    print(json.dumps(dict(record=record, code=code, said=f"{{record}} by {{os.getpid()}}" if code else "")), flush=True)
    if code: break
"""


@contextmanager
def sleeper(slots: Slots, seconds: float = 0.2, **more: Any) -> Iterator[LocalScheduler]:
    scheduler = LocalScheduler(slots, worker=(sys.executable, "-c", SLEEPER.format(seconds=seconds)), **more)
    yield scheduler
    scheduler.cancel(list(scheduler._running), at_once=True)
    scheduler.close()


def job(record: str | Path = "x", memory: int = 0) -> Job:
    return Job(Path(record), Cell(), "a cell", Submission(RunConfig(memory=memory)))


def states(scheduler: WatchedScheduler, ids: list[str]) -> list[str]:
    return [info.state.value for info in scheduler.status(ids).values()]


def drain(scheduler: WatchedScheduler, ids: list[str]) -> int:
    """Wait until all jobs are over; return the largest number that ran at once."""
    most, deadline = 0, time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [info.state for info in scheduler.status(ids).values()]
        most = max(most, found.count(JobState.RUNNING))
        if all(state.over for state in found):
            return most
        time.sleep(0.02)
    raise AssertionError("the jobs never ended")


def info(scheduler: WatchedScheduler, job_id: str) -> tuple[str, str]:
    """The state of a job, and why it ended."""
    found = scheduler.status([job_id])[job_id]
    return found.state.value, found.reason


def wait_until_nothing_is_taken(*schedulers: LocalScheduler) -> None:
    deadline = time.monotonic() + 10
    while any(scheduler.taken() for scheduler in schedulers):
        assert time.monotonic() < deadline
        for scheduler in schedulers:
            scheduler.status([], timeout=0.02)


def test_no_more_cells_run_at_once_than_there_are_slots() -> None:
    with sleeper(Slots(2, 1, "cpu")) as scheduler:
        assert drain(scheduler, scheduler.submit([job() for _ in range(5)])) == 2


def test_two_sweeps_together_take_no_more_than_the_machine_has() -> None:
    machine = cores()
    with sleeper(Slots(machine, 1, "cpu"), seconds=0.3) as one, sleeper(Slots(machine, 1, "cpu"), seconds=0) as other:
        first = one.submit([job() for _ in range(machine)])
        assert set(states(one, first)) == {"running"}
        assert other.taken() == machine
        second = other.submit([job() for _ in range(machine)])
        assert set(states(other, second)) == {"pending"}
        deadline = time.monotonic() + 30
        while set(states(other, second)) != {"done"}:
            assert time.monotonic() < deadline
            one.status(first)
            time.sleep(0.02)
        assert set(states(one, first)) == {"done"}
        wait_until_nothing_is_taken(one, other)


def test_a_cell_that_outlives_its_sweep_keeps_its_core(tmp_path: Path) -> None:
    """The sweep is killed; the worker holds the lock that it has inherited."""
    machine = cores()
    sweep = os.fork()
    if sweep == 0:
        scheduler = LocalScheduler(Slots(1, 1, "cpu"), worker=(sys.executable, "-c", SLEEPER.format(seconds=3)))
        scheduler.status(scheduler.submit([job()]))
        (tmp_path / "worker").write_text(str(scheduler._processes[0].popen.pid))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(sweep, 0)
    scheduler = LocalScheduler(Slots(machine, 1, "cpu"))
    assert scheduler.taken() == 1
    os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)
    wait_until_nothing_is_taken(scheduler)


def test_idle_workers_leave_their_cores_to_others() -> None:
    with sleeper(Slots(1, 1, "cpu"), seconds=0) as scheduler:
        ids = scheduler.submit([job()])
        drain(scheduler, ids)
        wait_until_nothing_is_taken(scheduler)


@pytest.mark.e2e
def test_a_cell_of_two_processes_waits_until_idle_workers_have_gone() -> None:
    with sleeper(Slots(2, 1, "cpu"), seconds=0) as scheduler:
        ids = scheduler.submit([job() for _ in range(2)])
        drain(scheduler, ids)
        wide = Job(Path("x"), Cell(), "a cell", Submission(RunConfig(world_size=2)))
        assert drain(scheduler, scheduler.submit([wide])) == 1


@pytest.fixture
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with eight GPUs."""
    installed = tuple(Gpu(str(number), f"GPU-{number}", "NVIDIA H100", 2**36) for number in range(8))
    monkeypatch.setattr(gpus, "_installed_gpus", lambda: installed)


@pytest.mark.usefixtures("eight_gpus")
def test_every_slot_has_its_own_gpu_among_all_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with sleeper(Slots(2, 1, "cuda"), seconds=60) as one, sleeper(Slots(2, 1, "cuda"), seconds=60) as other:
        first = one.submit([job()])
        one.status(first)
        second = other.submit([job() for _ in range(2)])
        assert sorted(states(other, second)) == ["pending", "running"]
        assert {visible(scheduler._processes[0].popen.pid) for scheduler in (one, other)} == {b"4", b"7"}


def visible(pid: int) -> bytes:
    """The GPUs that a process may see."""
    until = time.monotonic() + 10
    while not (environment := Path(f"/proc/{pid}/environ").read_bytes()):  # for a moment after it was started
        assert time.monotonic() < until
    return dict(entry.split(b"=", 1) for entry in environment.split(b"\0") if entry)[b"CUDA_VISIBLE_DEVICES"]


def test_no_more_cells_run_at_once_than_fit_in_memory() -> None:
    with sleeper(Slots(3, 1, "cpu", memory=10)) as scheduler:
        assert drain(scheduler, scheduler.submit([job(memory=5) for _ in range(4)])) == 2
        assert drain(scheduler, scheduler.submit([job(memory=11) for _ in range(2)])) == 1, "alone, it may try"


def test_a_worker_computes_one_cell_after_another() -> None:
    with sleeper(Slots(1, 1, "cpu"), seconds=0) as scheduler:
        drain(scheduler, scheduler.submit([job() for _ in range(5)]))
        assert len(scheduler._processes) == 1


def test_after_a_failure_the_next_cell_gets_a_new_worker() -> None:
    with sleeper(Slots(1, 1, "cpu"), seconds=0) as scheduler:
        ids = scheduler.submit([job("fail") for _ in range(3)])
        drain(scheduler, ids)
        found = [info(scheduler, job_id) for job_id in ids]
        assert {state for state, _ in found} == {"failed"}
        assert all(reason.startswith("fail by ") for _, reason in found)
        assert len(set(found)) == 3


def test_a_worker_that_ends_after_a_cell_computes_no_other(tmp_path: Path) -> None:
    code = """
import json, os, sys
from pathlib import Path
for line in sys.stdin:
    record = json.loads(line)["record"]
    Path(record).write_text(str(os.getpid()))
    print(json.dumps(dict(record=record, code=0, said="", ends="own" in record)), flush=True)
"""
    scheduler = LocalScheduler(Slots(1, 1, "cpu"), worker=(sys.executable, "-c", code))
    names = ["first", "second", "own", "third", "own too", "own again", "fourth"]
    drain(scheduler, scheduler.submit([job(tmp_path / name) for name in names]))
    scheduler.close()
    pids = [(tmp_path / name).read_text() for name in names]
    assert pids[0] == pids[1] == pids[2]
    assert len(set(pids)) == 4, "after each own loss, a new process"


def test_what_a_loss_has_forked_holds_neither_the_sweep_nor_cores(tmp_path: Path) -> None:
    """A ``multiprocessing.Pool`` forks processes that hold the worker's pipe and its locks, and never end."""
    code = """
import json, os, sys, time
from pathlib import Path
record = json.loads(sys.stdin.readline())["record"]
if not os.fork():
    time.sleep(60)
    os._exit(0)
print(json.dumps(dict(record=record, code=0, said="", ends=True)), flush=True)
os._exit(0)
"""
    scheduler = LocalScheduler(Slots(1, 1, "cpu"), worker=(sys.executable, "-c", code))
    begin = time.monotonic()
    drain(scheduler, scheduler.submit([job(), job()]))
    scheduler.close()
    while scheduler._processes:
        assert time.monotonic() - begin < 30
        scheduler.status([], timeout=0.02)


def test_a_killed_worker_ends_its_cell_and_says_so() -> None:
    with sleeper(Slots(1, 1, "cpu"), seconds=30) as scheduler:
        ids = scheduler.submit([job()])
        scheduler.status(ids)
        os.kill(scheduler._processes[0].popen.pid, signal.SIGKILL)
        drain(scheduler, ids)
        assert info(scheduler, ids[0]) == ("lost", "killed by SIGKILL")


def test_a_worker_that_cannot_start_leaves_its_last_line() -> None:
    broken = (sys.executable, "-c", "raise SystemExit('no torch here')")
    scheduler = LocalScheduler(Slots(1, 1, "cpu"), worker=broken)
    ids = scheduler.submit([job()])
    drain(scheduler, ids)
    assert info(scheduler, ids[0]) == ("failed", "no torch here")


def test_cancelled_jobs_stop_and_queued_ones_never_start() -> None:
    with sleeper(Slots(1, 1, "cpu"), seconds=60) as scheduler:
        ids = scheduler.submit([job() for _ in range(2)])
        assert sorted(states(scheduler, ids)) == ["pending", "running"]
        time.sleep(0.5)  # it sleeps by now
        scheduler.cancel(ids)
        drain(scheduler, ids)


def test_nothing_is_left_after_a_kill() -> None:
    with sleeper(Slots(2, 1, "cpu"), seconds=60) as scheduler:
        ids = scheduler.submit([job() for _ in range(3)])
        scheduler.status(ids)
        processes = [process.popen for process in scheduler._processes]
    assert [process.wait(10) for process in processes] == [-signal.SIGKILL] * 2


@pytest.mark.e2e
def test_the_script_is_what_runs(make_record: Callable[..., Record]) -> None:
    record = make_record(epochs=1)
    submission = record.submission()
    assert submission
    (script,) = LocalScheduler(Slots(1, 1, "cpu")).scripts([Job(record.path, record.cell(), "a cell", submission)])
    assert "OMP_NUM_THREADS=1" in script
    assert "GOMP_SPINCOUNT=5000" in script, "threads do not spin for long"
    subprocess.run(["bash", "-c", script], check=True)
    assert record.state() == "finished"


def test_threads_depend_on_the_experiment_not_on_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "cores", lambda: 8)
    monkeypatch.setattr(slots, "gpus", list)
    assert divide(100, None, "auto") == Slots(8, 1, "cpu")
    assert divide(2, None, "auto") == Slots(2, 4, "cpu")
    assert divide(100, 3, "cpu") == Slots(3, 2, "cpu")
    assert divide(100, None, "cpu", world_size=2) == Slots(8, 1, "cpu")
    assert divide(1, None, "cpu", world_size=2) == Slots(2, 4, "cpu")


@pytest.mark.usefixtures("eight_gpus")
def test_one_cell_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "cores", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert divide(100, None, "auto") == Slots(2, 4, "cuda")
    assert divide(100, None, "cpu").device == "cpu"
    with pytest.raises(UserError, match="need a GPU each"):
        divide(100, None, "auto", world_size=3)


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus_are_not_used(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert divide(10, None, "auto").device == "cpu"
    with pytest.raises(UserError, match="no GPU"):
        divide(10, None, "cuda")
