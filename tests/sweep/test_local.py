"""The local executor: never more cells at once than slots; cancelled jobs stop or never start."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.record import Record
from harness.sweep.executors import local
from harness.sweep.executors.base import Executor, Job
from harness.sweep.executors.local import LocalExecutor, Slots, divide


class Sleeper(LocalExecutor):
    """Runs a short sleep for a job."""

    seconds = 0.3

    def _command(self, job: Job) -> list[str]:
        return [sys.executable, "-c", f"import sys, time; print('bye', file=sys.stderr); time.sleep({self.seconds})"]


def job(path: Path = Path("x")) -> Job:
    return Job(path, "a cell", threads=1, device="cpu")


def drain(executor: Executor, ids: list[str]) -> int:
    """Poll until all have ended; the largest number that ran at once."""
    most, deadline = 0, time.monotonic() + 30
    while time.monotonic() < deadline:
        states = list(executor.poll(ids).values())
        most = max(most, states.count("running"))
        if set(states) == {"ended"}:
            return most
        time.sleep(0.02)
    raise AssertionError("the jobs never ended")


def test_no_more_cells_run_at_once_than_there_are_slots() -> None:
    executor = Sleeper(Slots(2, 1, "cpu"))
    assert drain(executor, [executor.submit(job()) for _ in range(5)]) == 2


def test_slots_held_by_an_earlier_sweep_are_respected() -> None:
    executor = Sleeper(Slots(2, 1, "cpu"), occupied=lambda: 1)
    assert drain(executor, [executor.submit(job()) for _ in range(3)]) == 1


def test_last_words_of_a_job_are_kept() -> None:
    executor = Sleeper(Slots(1, 1, "cpu"))
    ids = [executor.submit(job())]
    drain(executor, ids)
    assert executor.last_words(ids[0]) == "bye"


def test_cancelled_jobs_stop_and_queued_ones_never_start() -> None:
    executor = Sleeper(Slots(1, 1, "cpu"))
    executor.seconds = 60
    ids = [executor.submit(job()) for _ in range(2)]
    assert sorted(executor.poll(ids).values()) == ["queued", "running"]
    executor.cancel(ids)
    drain(executor, ids)


def test_the_script_is_what_runs(make_record: Callable[..., Record], tmp_path: Path) -> None:
    import subprocess

    record = make_record(epochs=1)
    script = LocalExecutor(Slots(1, 1, "cpu")).script(job(record.path))
    assert "OMP_NUM_THREADS=1" in script
    subprocess.run(["bash", "-c", script], check=True)
    assert record.state() == "finished"


def test_threads_depend_on_the_experiment_not_on_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(local, "gpus", list)
    assert divide(100, None, "auto") == Slots(8, 1, "cpu")
    assert divide(2, None, "auto") == Slots(2, 4, "cpu")
    assert divide(100, 3, "cpu") == Slots(3, 2, "cpu")


def test_one_cell_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert divide(100, None, "auto") == Slots(2, 4, "cuda")
    assert divide(100, None, "cpu").device == "cpu"


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus_are_not_used(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert divide(10, None, "auto").device == "cpu"
    with pytest.raises(UserError, match="no GPU"):
        divide(10, None, "cuda")
