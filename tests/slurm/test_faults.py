"""A cluster on which everything goes wrong: daemons stop, jobs are requeued, cancelled, preempted, nodes crash."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.slurm_sweeps import (
    LONG,
    LONG_TWICE,
    Folder,
    begun,
    computed_here,
    forget_when_asked,
    numbers,
    slurm,
    until,
)

pytestmark = pytest.mark.usefixtures("cluster")
#: How long the monkey plays.
MONKEY_SECONDS = 75.0
FORTY = ["axes.loss=[dcl,infonce]", "axes.batch_size=[64,128]", "axes.epochs=[12]",
         "axes.seed=[0,1,2,3,4,5,6,7,8,9]"]  # fmt: skip


@pytest.mark.exclusive
def test_a_controller_that_restarts_loses_nothing(
    folder: Folder, calm: dict[str, object], dev_cluster: Callable[..., None]
) -> None:
    folder.sweep(*LONG)
    begun(folder)
    dev_cluster("ctld", "stop")
    try:
        forget_when_asked(folder)
        asked = folder.harness("status")
        assert asked.returncode == 0
        assert "the cluster's queue could not be read" in asked.stderr
        refused = folder.harness("sweep", "study.yaml", "cluster=here.yaml", *LONG_TWICE)
        assert refused.returncode == 2
        assert "Slurm" in refused.stderr
        assert "nothing is submitted twice" in refused.stderr
    finally:
        dev_cluster("ctld", "start")
    until(folder.finished)
    until(lambda: "1 cell submitted" in folder.sweep(*LONG_TWICE) or folder.finished(), 60)
    until(lambda: len(folder.records()) == 2 and folder.finished())
    assert all(len(record.attempts()) == 1 for record in folder.records())
    assert calm in [numbers(record) for record in folder.records()]


@pytest.mark.exclusive
def test_without_accounting_cells_are_decided_by_the_queue_and_their_records(
    folder: Folder, dev_cluster: Callable[..., None]
) -> None:
    dev_cluster("dbd", "stop")
    try:
        folder.sweep(*LONG)
        attempt = begun(folder)
        slurm("scancel", *folder.jobs())
        until(attempt.outcome)
        until(lambda: (forget_when_asked(folder), folder.status()[0]["state"] == "missing")[1])
        folder.sweep(*LONG)
        until(folder.finished)
    finally:
        dev_cluster("dbd", "start")
    assert len(folder.record.attempts()) == 2


def test_a_waiting_sweep_submits_again_what_may_succeed(folder: Folder) -> None:
    (folder.path / "mine.py").write_text(
        "import os, signal\n"
        "def fragile(z1, z2, *, temperature=0.1):\n"
        "    if len(z1) == 128 and not os.path.exists(os.environ['MENDED']):\n"
        "        open(os.environ['MENDED'], 'w').close()\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return -(z1 * z2).sum(1).mean()\n"
    )
    folder.environment["MENDED"] = str(folder.path / "mended")
    (folder.path / "mended").touch()  # the cost is measured here, and harms nobody
    plan = ["axes.loss=[fragile]", "axes.seed=[0]", "--plugin", "mine.py"]
    assert folder.harness("plan", "study.yaml", "cluster=here.yaml", *plan).returncode == 0
    (folder.path / "mended").unlink()
    with folder.waiting(*plan) as sweep:
        said = sweep.stdout.read() if sweep.stdout else ""
    assert sweep.returncode == 0, said
    assert sorted(len(record.attempts()) for record in folder.records()) == [1, 2]
    assert len(folder.jobs()) == 2


def monkey(folder: Folder, dev_cluster: Callable[..., None], rng: random.Random) -> Iterator[str]:
    """One thing that goes wrong after another."""

    def running() -> list[str]:
        return slurm("squeue", "-h", "-r", "-t", "RUNNING", "-o", "%i %j").splitlines()

    def some_job() -> str:
        jobs = [line.split()[0] for line in running() if " study.demo." in line]
        return rng.choice(jobs) if jobs else ""

    while True:
        what = rng.choice(["requeue", "requeue", "warn", "cancel", "preempt", "crash", "controller", "accounting"])
        job = some_job()
        if what == "requeue" and job:
            slurm("scontrol", "requeue", job)
        elif what == "warn" and job:
            slurm("scancel", "--signal=USR2", job)
        elif what == "cancel" and job:
            slurm("scancel", job)
        elif what == "preempt":
            node = f"node{rng.randint(1, 4)}"
            urgent = ["sbatch", "-p", "high", "-w", node, "-c", "4", "-t", "1", "-o", "/dev/null", "--wrap", "sleep 2"]
            subprocess.run(urgent, capture_output=True, check=False, cwd=folder.path)
        elif what == "crash":
            number = str(rng.randint(1, 4))
            dev_cluster("node", "crash", number)
            time.sleep(rng.uniform(0, 15))
            dev_cluster("node", "up", number)
        elif what in ("controller", "accounting"):
            daemon = "ctld" if what == "controller" else "dbd"
            dev_cluster(daemon, "stop")
            time.sleep(rng.uniform(0, 8))
            dev_cluster(daemon, "start")
        yield what


@pytest.mark.exclusive
@pytest.mark.timeout(900)
def test_forty_cells_under_a_monkey_end_once_and_with_the_numbers_of_a_calm_run(
    folder: Folder, cache: Path, tmp_path: Path, dev_cluster: Callable[..., None]
) -> None:
    rng = random.Random(7)
    done: list[str] = []
    stop = time.monotonic() + MONKEY_SECONDS
    plays = monkey(folder, dev_cluster, rng)
    sweep = folder.waiting(*FORTY, "cluster.throttle=6")
    try:
        until(lambda: (folder.results / "runs").exists() and any(r.attempts() for r in folder.records()))
        while time.monotonic() < stop:
            done.append(next(plays))
            time.sleep(rng.uniform(0, 3))
            if rng.random() < 0.15 or sweep.poll() is not None:  # whoever waits is killed as well
                sweep.send_signal(signal.SIGKILL)
                sweep.wait()
                sweep = folder.waiting(*FORTY, "cluster.throttle=6")
    finally:
        plays.close()
    deadline = time.monotonic() + 400
    while sweep.wait(400) and not folder.finished():
        assert time.monotonic() < deadline, folder.harness("status").stdout
        sweep = folder.waiting(*FORTY, "cluster.throttle=6")
    records = folder.records()
    assert len(records) == 40
    assert all(record.outcome() for record in records)
    assert [sum(bool((end := a.outcome()) and end.finished) for a in r.attempts()) for r in records] == [1] * 40
    assert sum(len(record.attempts()) for record in records) > 40, done
    assert [numbers(record) for record in records] == computed_here(tmp_path / "calm", cache, *FORTY, "cluster.slots=2")
