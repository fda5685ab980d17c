"""What is made of the words of a probe's ranks, and of srun's; real ones are heard in tests/slurm/test_doctor.py."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from harness.environment.revision import source_hash
from harness.sweep.declare.schema import ClusterConfig
from harness.sweep.slurm.commands import Slurm
from harness.sweep.slurm.node_check import NodeReport, Probe, read


def seen(rank: int, **more: Any) -> str:
    own = {"rank": rank, "host": f"n{rank // 2}", "token": "t", "files": "", "python": "3.12.1", "torch": "9.9.9",
           "gpus": ["A100", "A100"], "sources": source_hash(), "harness": "/h"}  # fmt: skip
    return f"{rank}: {json.dumps({**own, **more})}\n"


def met(rank: int, **more: Any) -> str:
    return f"{rank}: {json.dumps({'rank': rank, 'ranks': 4, 'network': '', 'speed': 2e9, **more})}\n"


def probe(tmp_path: Path, **cluster: Any) -> Probe:
    profile = ClusterConfig(**{"scheduler": "slurm", "device": "cuda", "gpus": 2, "time": 60.0, **cluster})
    return Probe(profile, 2, tmp_path, Slurm(lambda line: None))


def lacks(
    tmp_path: Path, said: NodeReport, came_back: set[int] | None = None, **cluster: Any
) -> list[tuple[str, str, str]]:
    found = probe(tmp_path, **cluster)._diagnoses(said, "t", set(range(4)) if came_back is None else came_back)
    return [(one.what, one.found, one.fix) for one in found if one.failed]


ALL = "".join(seen(rank) + met(rank) for rank in range(4))


def test_ranks_that_see_everything_lack_nothing(tmp_path: Path) -> None:
    said = read(f"0: a banner of the cluster\n{ALL}", "srun: job 7 queued and waiting for resources\n", 3.0)
    assert lacks(tmp_path, said) == []
    assert said.hosts == ["n0", "n1"]


@pytest.mark.parametrize(
    ("out", "err", "what", "found", "fix"),
    [
        (ALL.replace('"sources": "', '"sources": "0', 1), "", "code", "jobs would refuse to start", "cluster.python"),
        (ALL.replace("9.9.9", "8.0", 1), "", "torch", "8.0 on n0; 9.9.9 on n0, n1", "cluster.python"),
        (ALL.replace('["A100", "A100"]', "[]", 2), "", "GPUs", "torch sees 0 on n0, and not 2", "cluster.gpus"),
        (ALL.replace('["A100", "A100"]', '["A100"]'), "", "GPUs", "torch sees 1 on n0, 1 on n1, and not 2",
         "cluster.srun=[--gpu-bind=none]"),
        (ALL.replace('"network": ""', '"network": "RuntimeError: refused"'), "", "nccl", "(n0: RuntimeError: refused)",
         "cluster.interface"),
        (ALL.replace('"network": ""', "\"network\": \"ModuleNotFoundError: No module named 'submitit'\""), "", "nccl",
         "submitit", "cluster.python"),
        (ALL.replace(met(3), ""), "3: a segmentation fault\n", "nccl", "ended before it had reached the others",
         "cluster.interface"),
        (ALL.replace(seen(3) + met(3), ""), "3: /x/python: not found\nsrun: error: task 3: Exited\n", "probe job",
         "1 of 4 processes did not get so far: /x/python: not found", "cluster.python, cluster.setup"),
        ("", "1: StepId=3.0 exceeded memory limit (2 > 1)\n1: *** CANCELLED ***\n", "memory", "memory limit (2 > 1)",
         "cluster.memory"),
        (ALL.replace(met(3), ""), "srun: error: n1: task 3: Out Of Memory\n", "memory", "n1: task 3", "cluster.memory"),
        (ALL.replace('"token": "t"', '"token": ""', 1), "", "results", "is not seen from n0", "--results FOLDER"),
    ],
)  # fmt: skip
def test_every_failed_check_names_the_key_that_fixes_it(
    tmp_path: Path, out: str, err: str, what: str, found: str, fix: str
) -> None:
    (lack, *_) = lacks(tmp_path, read(out, err, 1.0))
    assert lack[0] == what
    assert found in lack[1]
    assert lack[2].startswith(fix)


def test_files_of_the_ranks_that_do_not_come_back(tmp_path: Path) -> None:
    (lack,) = lacks(tmp_path, read(ALL, "", 1.0), came_back={0, 1})
    assert lack[1] == "what n1 writes there is not seen here"


@pytest.mark.parametrize(
    ("err", "found", "fix"),
    [
        ("srun: error: Unable to allocate resources: Invalid account or account/partition combination specified",
         "this account", "change cluster.account"),
        ("srun: error: Unable to allocate resources: Immediate execution impossible, insufficient priority for job",
         "did not start within a minute: no free nodes", "harness doctor again when nodes are free"),
        ("srun: unrecognized option '--colour'\nTry \"srun --help\" for more information",
         "srun: unrecognized option '--colour'", "cluster.srun, cluster.sbatch"),
        ("srun: error: Unable to allocate resources: Unable to contact slurm controller (connect failure)",
         "the controller does not answer", "harness doctor again, once Slurm answers"),
        ("", "it printed nothing", "change cluster"),
    ],
)  # fmt: skip
def test_a_job_that_never_ran(err: str, found: str, fix: str) -> None:
    said = read("", err, 1.0)
    assert found in said.refusal[0]
    assert said.refusal[1].startswith(fix)


def test_srun_gets_what_a_sweeps_job_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    own = probe(
        tmp_path, partition="gpu", account="lab", qos="high", constraint="a100|h100", cpus=8, memory=64.0,
        gpu_type="a100", sbatch={"exclude": "n13", "reservation": "mine", "hold": True}, srun=["--mpi=none"],
        interface="ib0", python="apptainer exec it.sif python", setup=["module load cuda"],
    )  # fmt: skip
    *options, shell, _, script = own.command(tmp_path / "a folder", "harness-doctor-1")
    assert shell == "bash"
    for wanted in ("--partition=gpu", "--account=lab", "--qos=high", "--constraint=a100|h100", "--cpus-per-task=8",
                   "--mem=65536M", "--gpus-per-node=a100:2", "--exclude=n13", "--reservation=mine", "--mpi=none",
                   "--nodes=2", "--ntasks-per-node=2", "--time=3", "--job-name=harness-doctor-1"):  # fmt: skip
        assert wanted in options
    assert not [word for word in options if word.startswith(("--hold", "--output", "--requeue", "--signal"))]
    assert script.splitlines() == [
        "module load cuda",
        "export NCCL_SOCKET_IFNAME=ib0",
        "export GLOO_SOCKET_IFNAME=ib0",
        "export SUBMITIT_EXECUTOR=slurm",
        "exec apptainer exec it.sif python -P -u -m harness.ssl.measure.node_check "
        f"{shlex.quote(str(tmp_path / 'a folder'))} cuda",
    ]
