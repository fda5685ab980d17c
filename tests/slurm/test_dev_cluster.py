"""What the development cluster promises, beside what sweeps on it show: requeues, preemption, crashes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.slurm_cluster import Cluster


def refusal(*options: str) -> str:
    """What sbatch says of a job that it does not take."""
    done = subprocess.run(["sbatch", *options, "--wrap=true"], capture_output=True, text=True, check=False)
    assert done.returncode, done.stdout
    return done.stderr


def test_a_job_runs_on_a_node_and_sees_the_gpus_it_asked_for(cluster: Cluster, tmp_path: Path) -> None:
    output = tmp_path / "job"
    job = cluster.submit(
        "hostname; echo gpus $CUDA_VISIBLE_DEVICES", output, "-w", "node3", "--gpus-per-node=2", "--comment=cell a"
    )
    cluster.ended(job, "COMPLETED")
    assert output.read_text() == "node3\ngpus 0,1\n"
    assert cluster.ask("sacct", "-X", "-n", "-P", "-j", job, "-o", "Comment,Account") == "cell a|science\n"


@pytest.mark.exclusive
def test_a_job_of_two_nodes_has_its_ranks_on_both_and_they_find_each_other(cluster: Cluster, tmp_path: Path) -> None:
    output = tmp_path / "job"
    script = "srun bash -c 'echo $SLURM_PROCID $(hostname) $CUDA_VISIBLE_DEVICES $(getent hosts node1)'"
    job = cluster.submit(script, output, "-w", "node1,node2", "--ntasks-per-node=1", "--gpus-per-node=1")
    cluster.ended(job, "COMPLETED")
    assert sorted(output.read_text().splitlines()) == ["0 node1 0 127.0.0.1 node1", "1 node2 0 127.0.0.1 node1"]


def test_a_job_above_its_memory_fails_and_says_so(cluster: Cluster, tmp_path: Path) -> None:
    output = tmp_path / "job"
    script = "python3 -c 'import time; x = bytearray(300 << 20); time.sleep(30)'"
    job = cluster.submit(script, output, "--mem=100")
    cluster.ended(job, "FAILED")
    assert "exceeded memory limit" in output.read_text()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--account=nobody", "Invalid account"),
        ("--qos=none", "Invalid qos"),
        ("--partition=none", "Invalid partition"),
        ("--time=2:00:00", "time limit is invalid"),
        ("--mem=5000", "Memory specification can not be satisfied"),
        ("--gpus-per-node=3", "node configuration is not available"),
        ("--constraint=none", "Invalid feature"),
        ("--array=0-30", "Invalid job array"),
    ],
)
def test_what_no_node_or_account_has_is_refused(cluster: Cluster, option: str, says: str) -> None:
    assert says in refusal(option)


@pytest.mark.exclusive
def test_running_jobs_outlive_the_controller_and_the_accounting(
    cluster: Cluster, dev_cluster: Callable[..., None], tmp_path: Path
) -> None:
    output = tmp_path / "job"
    job = cluster.submit("echo begun; sleep 4", output)
    cluster.until(output.exists, "the job's begin")
    try:
        dev_cluster("dbd", "stop")
        dev_cluster("ctld", "stop")
        assert "DOWN" in subprocess.run(["scontrol", "ping"], capture_output=True, text=True, check=False).stdout
    finally:
        dev_cluster("dbd", "start")
        dev_cluster("ctld", "start")
    cluster.ended(job, "COMPLETED")
