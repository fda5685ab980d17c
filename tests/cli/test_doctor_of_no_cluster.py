"""``harness doctor`` of a cluster, where there is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.command_line import harness

pytestmark = pytest.mark.e2e

PROFILE = "scheduler: slurm\ndevice: cpu\npartition: main\ntime: 10\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "here.yaml").write_text(PROFILE)
    return tmp_path


def test_without_slurm_it_says_so_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    done = harness("doctor", "cluster=here.yaml", cwd=folder)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "FAIL Slurm          not on this machine: sbatch, srun, squeue, scontrol, sinfo, scancel, sacct",
        "                    fix: the same command on a login node of the cluster, or cluster.scheduler=none",
    ]
    assert done.stderr == ""
    assert not (folder / "results").exists()


def test_a_configuration_that_is_not_there_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm itself would look for it for a minute."""
    stand_ins = folder / "bin"
    stand_ins.mkdir()
    for name in ("sbatch", "srun", "squeue", "scontrol", "sinfo", "scancel", "sacct"):
        (stand_ins / name).write_text("#!/bin/sh\nexit 1\n")
        (stand_ins / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_ins}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    done = harness("doctor", "cluster=here.yaml", cwd=folder)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == f"FAIL Slurm          there is no {folder}/slurm.conf"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cluster=nowhere"], "no cluster 'nowhere'"),
        (["cluster=local"], "this cluster is the present machine"),
        (["cluster=here.yaml", "cluster.colour=red"], "unknown key 'cluster.colour'"),
        (["cluster=here.yaml", "cluster.time=-1"], "cluster.time: -1.0 is out of range"),
        (["cluster=here.yaml", "epochs=3"], "doctor takes a cluster and its keys, not 'epochs=3'"),
        (["cluster.nodes=2"], "no cluster is named"),
        (["--full"], "no cluster is named"),
    ],
)
def test_what_is_no_profile_is_refused(folder: Path, words: list[str], said: str) -> None:
    done = harness("doctor", *words, cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
