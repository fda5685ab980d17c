"""Sweeps on a real Slurm: what is submitted, how jobs are interrupted, and that the numbers are those of a calm run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.files import read_json, write_json
from tests.support.slurm_sweeps import (
    LONG,
    LONG_TWICE,
    Folder,
    begun,
    causes,
    computed_here,
    events,
    forget_when_asked,
    node_of,
    numbers,
    slurm,
    until,
)

pytestmark = pytest.mark.usefixtures("cluster")


def test_a_sweep_is_submitted_as_a_throttled_array_and_ends_by_itself(
    folder: Folder, cache: Path, tmp_path: Path
) -> None:
    said = folder.sweep("cluster.throttle=3")
    assert "24 cells submitted as study.demo.1" in said
    (job,) = folder.jobs()
    most = 0

    def over() -> bool:
        nonlocal most
        running = slurm("squeue", "-h", "-r", "-j", job, "-t", "RUNNING", "-o", "%i").split()
        most = max(most, len(running))
        return folder.finished()

    until(over, 240)
    assert most == 3
    assert all(len(record.attempts()) == 1 for record in folder.records())
    assert folder.calls("sbatch") == 1
    assert folder.calls("squeue") == 0, "nobody needs to ask"
    again = folder.sweep("cluster.throttle=3")
    assert "Nothing is missing" in again
    assert folder.calls("sbatch") == 1
    synced = folder.harness("sync", "study.demo", "--json")
    assert json.loads(synced.stdout)["experiments"][0]["errors"] == {}


def test_jobs_name_their_experiment_and_their_cells(folder: Folder) -> None:
    folder.sweep("axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0,1]", "cluster.sbatch.hold=true")
    (job,) = folder.jobs()
    name, comment = slurm("squeue", "-h", "-j", job, "-o", "%j|%k").splitlines()[0].split("|")
    assert name.startswith("study.demo.1-1-")
    assert all(record.cell_id in comment for record in folder.records())
    held = [cell["waits"] for cell in folder.status()]
    assert held == ["JobHeldUser", "JobHeldUser"]
    assert "scontrol release" in folder.harness("status").stdout


def test_the_dry_run_prints_the_scripts_that_are_submitted(folder: Folder) -> None:
    words = ["axes.loss=[dcl]", "axes.seed=[0,1]", "cluster.sbatch.hold=true", "cluster.setup=[umask 022]"]
    dry = folder.harness("sweep", "study.yaml", "cluster=here.yaml", *words, "--dry-run").stdout
    assert not folder.results.exists()
    folder.sweep(*words)
    (job,) = folder.jobs()
    script = (folder.results / "sweeps/study.demo.1/jobs" / f"{job}_submission.sh").read_text()
    name = slurm("squeue", "-h", "-j", job, "-o", "%j").splitlines()[0]
    assert dry.replace("study.demo.N-1-XXXXXX", name).replace("study.demo.N", "study.demo.1").strip() == script.strip()


def test_arrays_are_no_longer_than_the_cluster_allows(folder: Folder) -> None:
    longest = int(slurm("scontrol", "show", "config").partition("MaxArraySize")[2].split()[1])
    seeds = ",".join(map(str, range(longest + 5)))
    words = ["axes.loss=[dcl]", "axes.batch_size=[64]", f"axes.seed=[{seeds}]"]
    folder.sweep(*words, "cluster.sbatch.hold=true")
    sizes = [len(slurm("squeue", "-h", "-r", "-j", job, "-o", "%i").split()) for job in folder.jobs()]
    assert sizes == [longest, 5]


def test_small_cells_share_a_job_and_one_that_fails_harms_no_other(folder: Folder) -> None:
    (folder.path / "mine.py").write_text(
        "def fragile(z1, z2, *, temperature=0.1):\n"
        "    if len(z1) == 128:\n        raise RuntimeError('no such table')\n"
        "    return -(z1 * z2).sum(1).mean()\n"
    )
    words = ["axes.loss=[fragile]", "axes.batch_size=[128,64]", "axes.seed=[0,1]", "--plugin", "mine.py"]
    folder.sweep(*words, "cluster.cells_per_job=4")
    until(lambda: all(record.outcome() or record.state() == "failed" for record in folder.records()))
    states = sorted(record.state() for record in folder.records())
    assert states == ["failed", "failed", "finished", "finished"]
    (job,) = folder.jobs()
    assert len(slurm("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%i").split()) == 1


def test_two_nodes_of_two_ranks_compute_what_one_process_computes(folder: Folder, cache: Path, tmp_path: Path) -> None:
    words = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0]", "axes.epochs=[2]", "bn_groups=4"]
    folder.sweep(*words, "cluster.nodes=2", "cluster.gpus=2", "cluster.memory=2.4")
    until(folder.finished, 180)
    (alone,) = computed_here(tmp_path / "alone", cache, *words)
    together = numbers(folder.record)
    outcome = folder.record.outcome()
    assert outcome
    assert outcome.world_size == 4
    for (step, one), (other_step, other) in zip(alone["curve"], together["curve"], strict=True):  # type: ignore[call-overload]
        assert step == other_step
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4) if step else True


def test_a_rank_that_fails_ends_the_job_with_its_error_on_top(folder: Folder) -> None:
    (folder.path / "mine.py").write_text(
        "import os\n"
        "def fragile(z1, z2, *, temperature=0.1):\n"
        "    if os.environ['RANK'] == '3':\n        raise RuntimeError('rank three has no table')\n"
        "    return -(z1 * z2).sum(1).mean()\n"
    )
    words = ["axes.loss=[fragile]", "axes.batch_size=[64]", "axes.seed=[0]", "--plugin", "mine.py"]
    folder.sweep(*words, "cluster.nodes=2", "cluster.gpus=2", "cluster.memory=2.4")
    until(lambda: folder.record.state() == "failed", 120)
    (cell,) = folder.status()
    assert "rank 3: RuntimeError: rank three has no table" in cell["error"]


def test_a_requeued_cell_goes_on_to_the_same_numbers(folder: Folder, calm: dict[str, object]) -> None:
    folder.sweep(*LONG)
    begun(folder)
    (job,) = folder.jobs()
    slurm("scontrol", "requeue", job)
    until(lambda: len(folder.record.attempts()) == 2)
    until(folder.finished)
    assert causes(folder.record) == ["signal", "finished"]
    assert numbers(folder.record) == calm


@pytest.mark.exclusive
def test_a_preempted_cell_goes_on_to_the_same_numbers(folder: Folder, calm: dict[str, object]) -> None:
    folder.sweep(*LONG, "cluster.sbatch.nodelist=node1")
    begun(folder)
    urgent = [
        "sbatch",
        "--parsable",
        "-p",
        "high",
        "-w",
        "node1",
        "-c",
        "4",
        "--mem=3500",
        "-t",
        "1",
        "--wrap",
        "sleep 3",
    ]
    subprocess.run(urgent, check=True, capture_output=True, cwd=folder.path)
    until(folder.finished, 180)
    assert causes(folder.record) == ["preempted", "finished"]
    assert numbers(folder.record) == calm


def test_a_cell_that_reaches_its_time_limit_goes_on_to_the_same_numbers(
    folder: Folder, cache: Path, tmp_path: Path
) -> None:
    """Slurm looks at limits every half minute, and warns a job of one minute at its first look."""
    longer = [*LONG[:-1], "axes.epochs=[600]"]
    folder.sweep(*longer, "cluster.time=1", "cluster.grace=60")
    (calm,) = computed_here(tmp_path / "calm", cache, *longer)
    until(folder.finished, 240)
    assert set(causes(folder.record)[:-1]) == {"time_limit"}
    assert numbers(folder.record) == calm


def test_a_cell_takes_as_many_warnings_as_come(folder: Folder, calm: dict[str, object]) -> None:
    """submitit would give up after three."""
    folder.sweep(*LONG)
    for number in range(1, 5):
        until(lambda number=number: attempts_with_events(folder) == number)
        slurm("scancel", "--signal=USR2", *folder.jobs())
        until(lambda number=number: causes(folder.record)[number - 1] != "?")
    until(folder.finished)
    assert causes(folder.record) == ["preempted"] * 4 + ["finished"]
    assert numbers(folder.record) == calm


def attempts_with_events(folder: Folder) -> int:
    return sum(bool(list(attempt.events())) for attempt in folder.record.attempts())


@pytest.mark.exclusive
def test_a_cell_whose_node_crashes_goes_on_elsewhere(
    folder: Folder, calm: dict[str, object], dev_cluster: object
) -> None:
    folder.sweep(*LONG)
    begun(folder)
    (job,) = folder.jobs()
    node = node_of(job)
    assert node.startswith("node")
    dev_cluster("node", "crash", node.removeprefix("node"))
    try:
        until(lambda: folder.finished() or slurm("squeue", "-h", "-j", job, "-o", "%T").strip() == "PENDING", 90)
        (cell,) = folder.status()
        assert cell["state"] in ("queued", "running"), "a failure that Slurm runs again is none"
        until(folder.finished, 180)
    finally:
        dev_cluster("node", "up", node.removeprefix("node"))
    assert len(folder.record.attempts()) == 2
    assert numbers(folder.record) == calm


def test_a_cancelled_job_is_missing_and_submitted_by_the_next_sweep(folder: Folder, calm: dict[str, object]) -> None:
    folder.sweep(*LONG)
    begun(folder)
    slurm("scancel", *folder.jobs())
    until(lambda: folder.record.state() == "missing")
    until(lambda: not slurm("squeue", "-h", "-j", folder.jobs()[0], "-o", "%i").strip())
    time.sleep(1)
    forget_when_asked(folder)
    assert "1 cell submitted as study.demo.2" in folder.sweep(*LONG)
    until(folder.finished)
    assert numbers(folder.record) == calm


def test_too_little_memory_is_said_and_not_tried_again(folder: Folder) -> None:
    (folder.path / "mine.py").write_text(
        "import os, torch\n"
        "kept = []\n"
        "def greedy(z1, z2, *, temperature=0.1):\n"
        "    if 'SLURM_JOB_ID' in os.environ:\n        kept.append(torch.ones(200_000_000))\n"
        "    return -(z1 * z2).sum(1).mean()\n"
    )
    words = ["axes.loss=[greedy]", "axes.batch_size=[64]", "axes.seed=[0]", "--plugin", "mine.py"]
    folder.sweep(*words)
    (job,) = folder.jobs()
    until(lambda: slurm("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip() in ("FAILED", "OUT_OF_MEMORY"))
    said = folder.sweep(*words)
    assert "out of memory" in said or "out_of_memory" in said
    (cell,) = folder.status()
    assert (cell["state"], cell["cause"]) == ("failed", "out_of_memory")
    assert "cluster.memory" in cell["error"]
    assert len(folder.jobs()) == 1


def test_a_cluster_that_requeues_nothing_leaves_the_cell_to_the_next_sweep(
    folder: Folder, calm: dict[str, object]
) -> None:
    folder.sweep(*LONG, "cluster.requeue=false")
    begun(folder)
    slurm("scancel", "--signal=USR2", *folder.jobs())
    until(lambda: not slurm("squeue", "-h", "-j", folder.jobs()[0], "-o", "%i").strip(), 30)
    forget_when_asked(folder)
    (cell,) = folder.status()
    assert (cell["state"], cell["ends"]) == ("missing", {"preempted": 1})
    folder.sweep(*LONG)
    until(folder.finished)
    assert numbers(folder.record) == calm


def test_no_more_cells_are_in_the_queue_than_is_allowed(folder: Folder) -> None:
    words = ["axes.loss=[dcl]", "axes.batch_size=[64]", "cluster.max_jobs=2", "cluster.sbatch.hold=true"]
    assert "4 cells wait until there is room in the queue (cluster.max_jobs is 2)" in folder.sweep(*words)
    assert "submitted" not in folder.sweep(*words)
    assert len(list((folder.results / "sweeps").glob("study.demo.*"))) == 1, (
        "nothing is left of a sweep that had no room"
    )
    queued = [cell for cell in folder.status() if cell["state"] == "queued"]
    assert len(queued) == 2


def test_a_sweep_on_this_machine_leaves_a_clusters_cells_to_it(folder: Folder) -> None:
    words = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0,1]"]
    folder.sweep(*words, "cluster.sbatch.hold=true")
    here = folder.harness("sweep", "study.yaml", *words)
    assert here.returncode == 1
    assert "2 cells left to a cluster's jobs" in here.stdout
    assert not any(record.attempts() for record in folder.records())
    slurm("scontrol", "release", *folder.jobs())
    until(folder.finished)


def test_a_failed_cell_is_retried_on_the_cluster(folder: Folder) -> None:
    mended = folder.path / "mended"
    (folder.path / "mine.py").write_text(
        "import os\n"
        "def fragile(z1, z2, *, temperature=0.1):\n"
        f"    if 'SLURM_JOB_ID' in os.environ and not os.path.exists({str(mended)!r}):\n"
        "        raise RuntimeError('no such table')\n"
        "    return -(z1 * z2).sum(1).mean()\n"
    )
    folder.sweep("axes.loss=[fragile]", "axes.batch_size=[64]", "axes.seed=[0]", "--plugin", "mine.py")
    until(lambda: folder.record.state() == "failed")
    mended.touch()
    done = folder.harness("retry", "study.demo", "--yes")
    assert "1 cell submitted as study.demo.2" in done.stdout, done.stderr
    until(folder.finished)


def test_changed_code_is_refused_by_a_waiting_job(folder: Folder) -> None:
    folder.sweep(*LONG, "cluster.sbatch.hold=true")
    submission = folder.record.path / "submission.json"
    write_json(submission, {**(read_json(submission) or {}), "sources": "0" * 12})
    slurm("scontrol", "release", *folder.jobs())
    until(lambda: folder.record.state() == "failed")
    (cell,) = folder.status()
    assert cell["cause"] == "code_drift"
    assert "the code has changed since the cell was submitted" in cell["error"]


@contextmanager
def nothing_starts() -> Iterator[None]:
    """Jobs are accepted, and wait until the end of this block."""
    slurm("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        yield
    finally:
        slurm("scontrol", "update", "PartitionName=main", "State=UP")


def test_a_submitter_that_dies_after_sbatch_doubles_nothing(folder: Folder) -> None:
    """The batch has no id yet; the queue knows it by its name."""
    words = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0,1]"]
    killed = (
        "import os, sys; sys.argv = ['harness', 'sweep', 'study.yaml', 'cluster=here.yaml', *{words!r}]\n"
        "from submitit.slurm.slurm import SlurmExecutor\n"
        "SlurmExecutor._get_job_id_from_submission_command = staticmethod(lambda said: os._exit(9))\n"
        "import harness.cli.main; harness.cli.main.main()"
    )
    command = [sys.executable, "-c", killed.format(words=words)]
    with nothing_starts():  # a job waits a minute for what its submitter writes last, then fails and is tried again
        assert subprocess.run(command, cwd=folder.path, env=folder.environment, check=False).returncode == 9
        assert folder.jobs() == []
        assert "Nothing is missing but what is in the queue" in folder.sweep(*words)
        for path in (folder.results / "sweeps").glob("*/batches/*.json"):  # as if it lay two minutes ago
            content = read_json(path) or {}
            write_json(path, {**content, "submitted": content["submitted"] - 120})
        forget_when_asked(folder)
        folder.sweep(*words)
        assert len(folder.jobs()) == 1
    until(folder.finished)
    assert all(len(record.attempts()) == 1 for record in folder.records())


def test_cancel_takes_back_what_waits_and_stops_what_runs(folder: Folder) -> None:
    folder.sweep(*LONG_TWICE, "cluster.throttle=1")
    until(lambda: any(list(events(record)) for record in folder.records()))
    done = folder.harness("cancel", "study.demo", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert sorted(cell["was"] for cell in json.loads(done.stdout)) == ["queued", "running"]
    assert {cell["became"] for cell in json.loads(done.stdout)} == {"cancelled"}
    until(lambda: not slurm("squeue", "-h", "-j", folder.jobs()[0], "-o", "%i").strip())


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("cluster.partition=nowhere", "no such partition"),
        ("cluster.time=6000", "time limit"),
        ("cluster.account=nobody", "account"),
        ("cluster.memory=900", "memory|node"),
        ("cluster.constraint=quantum", "constraint|node"),
    ],
)
def test_what_slurm_refuses_is_said_with_its_key(folder: Folder, word: str, said: str) -> None:
    done = folder.harness("sweep", "study.yaml", "cluster=here.yaml", *LONG, word, "--yes")
    assert done.returncode == 2, done.stdout
    assert "Slurm refuses the job" in done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(said, done.stderr)
    assert word.partition("=")[0] in done.stderr
    assert folder.jobs() == []
    assert [cell["state"] for cell in folder.status()] == ["missing"]


def test_without_slurm_on_the_machine(folder: Folder) -> None:
    path = os.path.dirname(sys.executable)
    done = folder.harness("sweep", "study.yaml", "cluster=here.yaml", *LONG, PATH=path)
    assert done.returncode == 2
    assert "there is no" in done.stderr
    assert "cluster=local" in done.stderr


def test_a_job_is_told_paths_of_records_and_nothing_else(folder: Folder) -> None:
    folder.sweep(*LONG, "cluster.sbatch.hold=true")
    (pickled,) = (folder.results / "sweeps/study.demo.1/jobs").glob("*_submitted.pkl")
    assert str(folder.record.path).encode() in pickled.read_bytes()
    assert pickled.stat().st_size < 2000
