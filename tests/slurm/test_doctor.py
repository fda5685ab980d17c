"""``harness doctor cluster=NAME`` on a real Slurm: what it finds, what it names, and that it leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.environment.diagnosis import Diagnosis
from harness.sweep.cluster_check import check_cluster
from harness.sweep.slurm import acceptance, node_check
from tests.support.slurm_cluster import Cluster
from tests.support.slurm_sweeps import Folder, slurm, until

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Folder:
    return Folder(tmp_path / "shared", cache)


def jobs(folder: Folder, name: str) -> str:
    """Those that were submitted from this folder, are in the queue and not over."""
    lines = slurm("squeue", "-h", "-o", "%i %j %T %Z").splitlines()
    return "\n".join(line for line in lines if f" {name}" in line and line.endswith(f" {folder.path}"))


def lines(said: str) -> dict[str, str]:
    """What each line is about, and what it says."""
    found = re.findall(r"^(ok  |FAIL|note) (\S.{13}) (.*)$", said, re.MULTILINE)
    return {what.strip(): f"{mark.strip()} {text}" for mark, what, text in found}


def test_the_development_cluster_lacks_nothing(folder: Folder) -> None:
    done = folder.harness("doctor", "cluster=here.yaml", "cluster.gpus=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    said = lines(done.stdout)
    assert said["partition"] == "ok main: 4 nodes, jobs of up to 60 minutes"
    assert said["a job"] == "ok Slurm would take it: 1 node, 2 processes on each"
    assert re.fullmatch(r"ok node\d, node\d: 2 processes on each, \d+ s", said["probe job"])
    assert said["results"].startswith("ok results: read and written from node")
    assert "4 processes on 2 nodes have the same sum" in said["gloo"]
    assert not folder.results.exists(), "it leaves no files"
    assert not jobs(folder, "harness-doctor"), "and no job"


@pytest.mark.parametrize(
    ("word", "what", "found", "fix"),
    [
        ("cluster.partition=nowhere", "partition", "there is no 'nowhere'", "cluster.partition=NAME, of high, main"),
        ("cluster.time=6000", "time", "jobs ask for 6000 minutes, main allows 60", "cluster.time=60"),
        ("cluster.account=nobody", "account", "'nobody' is none of yours", "cluster.account=NAME, of "),
        ("cluster.memory=900", "memory", "900 GiB of a node", "cluster.memory=3.7"),
        ("cluster.cpus=5", "cores", "5 cores of a node (cpus x gpus), the largest has 4", "cluster.cpus=4"),
        ("cluster.nodes=9", "nodes", "a cell asks for 9; 4 work", "cluster.nodes=4"),
        ("cluster.constraint=quantum", "a job", "no node fulfils the constraint", "cluster.constraint"),
        ("cluster.python=/nowhere/python", "probe job", "/nowhere/python: No such file", "cluster.python"),
        ("cluster.interface=ib7", "gloo", "Unable to find address for: ib7", "cluster.interface=NAME"),
        ("cluster.memory=0.1", "memory", "memory limit", "cluster.memory: more, or none"),
        ("cluster.device=cuda", "GPUs", "torch sees 0 on node", "cluster.python: a CUDA build of torch"),
        ("cluster.sbatch.colour=red", "a job", "unrecognized option '--colour=red'", "cluster.sbatch"),
        ("cluster.srun=[--colour]", "probe job", "unrecognized option '--colour'", "cluster.srun"),
    ],
)  # fmt: skip
def test_every_failed_check_names_the_key_that_fixes_it(
    folder: Folder, word: str, what: str, found: str, fix: str
) -> None:
    done = folder.harness("doctor", "cluster=here.yaml", word)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr == ""
    assert re.search(rf"FAIL {what:14} .*{re.escape(found)}.*\n +fix: .*{re.escape(fix)}", done.stdout), done.stdout
    assert len(done.stdout.splitlines()) < 25


def test_a_line_of_the_setup_that_fails_is_noted(folder: Folder) -> None:
    done = folder.harness("doctor", "cluster=here.yaml", "cluster.setup=[module load cuda]")
    assert done.returncode == 0, done.stdout
    assert "module: command not found" in lines(done.stdout)["setup"]


def test_a_controller_that_does_not_answer(folder: Folder, cluster: Cluster, tmp_path: Path) -> None:
    dead = re.sub("MessageTimeout=.*", "MessageTimeout=2", cluster.conf.read_text())
    (tmp_path / "slurm.conf").write_text(re.sub("SlurmctldPort=.*", "SlurmctldPort=16999", dead))
    done = folder.harness("doctor", "cluster=here.yaml", SLURM_CONF=str(tmp_path / "slurm.conf"))
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL Slurm          its controller does not answer (scontrol ping)\n")
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""


@pytest.fixture
def unshared(tmp_path: Path) -> Iterator[Path]:
    """A folder that nodes do not see: their mounts are older than it."""
    path = tmp_path / "unshared"
    path.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=False).returncode:
        pytest.skip("only root can mount")
    yield path
    subprocess.run(["umount", path], check=True)


def test_results_that_nodes_do_not_see(folder: Folder, unshared: Path) -> None:
    done = folder.harness("doctor", "cluster=here.yaml", "--results", str(unshared / "results"))
    assert done.returncode == 1
    assert f"FAIL results        {unshared}/results is not seen from node" in done.stdout
    assert "fix: --results FOLDER, one that all nodes see at the same path" in done.stdout
    assert lines(done.stdout)["gloo"].startswith("ok"), "the rest is tried all the same"


def test_results_that_cannot_be_written(folder: Folder) -> None:
    (folder.path / "a-file").touch()
    done = folder.harness("doctor", "cluster=here.yaml", "--results", "a-file/results")
    assert done.returncode == 1
    assert "FAIL results        a-file/results cannot be written: Not a directory" in done.stdout


def findings(folder: Folder, monkeypatch: pytest.MonkeyPatch, *words: str, full: bool = False) -> dict[str, Diagnosis]:
    monkeypatch.chdir(folder.path)
    found = check_cluster(["cluster=here.yaml", *words], Path("results"), full, print)
    return {finding.what: finding for finding in found}


def test_nodes_that_do_not_come_free_are_not_waited_for(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_check, "START_SECONDS", 8)
    found = findings(folder, monkeypatch, "cluster.sbatch.begin=now+1hour")["probe job"]
    assert found.found == "did not start within a minute (BeginTime)"
    assert "cluster.partition" in found.fix
    until(lambda: not jobs(folder, "harness-doctor"), 15)


def started(folder: Folder, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "harness.cli.main", "doctor", "cluster=here.yaml", *words]
    return subprocess.Popen(
        command, cwd=folder.path, env=folder.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_ctrl_c_takes_the_probe_back(folder: Folder) -> None:
    doctor = started(folder, "cluster.sbatch.begin=now+1hour")
    until(lambda: jobs(folder, "harness-doctor"))
    doctor.send_signal(signal.SIGINT)
    assert "Traceback" not in doctor.communicate(timeout=30)[0]
    until(lambda: not jobs(folder, "harness-doctor"), 15)
    assert not folder.results.exists()


def test_ctrl_c_takes_the_acceptance_back(folder: Folder) -> None:
    doctor = started(folder, "--full")
    until(lambda: jobs(folder, "acceptance"))
    doctor.send_signal(signal.SIGINT)
    assert "Traceback" not in doctor.communicate(timeout=30)[0]
    until(lambda: not jobs(folder, "acceptance"), 30)


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cell in fewer epochs."""
    path = tmp_path / "acceptance.yaml"
    path.write_text(acceptance.FILE.read_text().replace("epochs: 40", "epochs: 12"))
    assert "epochs: 12" in path.read_text()
    monkeypatch.setattr(acceptance, "FILE", path)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("word", ["cluster.requeue=true", "cluster.requeue=false"])
def test_an_interrupted_cell_has_the_numbers_of_an_undisturbed_one(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    found = findings(folder, monkeypatch, word, full=True)
    assert not [finding for finding in found.values() if finding.failed]
    assert re.fullmatch(r"job \d+, 1 attempt \(finished\), \d+ s", found["undisturbed"].found)
    assert re.fullmatch(r"job \d+, 2 attempts \(signal, then finished\), \d+ s", found["interrupted"].found)
    assert found["same numbers"].found.startswith("all 4 metrics to the last bit: init_knn")
    assert re.fullmatch(r"[\d,]+ samples/s per process, [\d,]+ together \(2 on 2 nodes\)", found["throughput"].found)
    (own,) = (folder.results / "doctor").iterdir()
    assert {path.name for path in own.iterdir()} == {"undisturbed", "interrupted"}
    assert {path.name for path in folder.results.iterdir()} == {"doctor"}, "a sweep's results stay as they were"


@pytest.mark.usefixtures("short")
def test_a_cell_that_fails_ends_the_acceptance_with_its_error(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The submitted code is not what the nodes have."""
    monkeypatch.setattr(acceptance, "source_hash", lambda: "0" * 12)
    found = findings(folder, monkeypatch, full=True)["acceptance"]
    assert "the code has changed since the cell was submitted" in found.found
    assert "stderr.log" in found.fix


@pytest.mark.usefixtures("short")
def test_a_job_that_somebody_cancels_ends_the_acceptance(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.path)
    monkeypatch.setattr(acceptance, "ASK_SECONDS", 2.0)
    monkeypatch.setattr(acceptance, "SEEN_SECONDS", 2.0)

    def cancel(line: str) -> None:
        if submitted := re.search(r"job (\d+) submitted", line):
            slurm("scancel", submitted[1])

    declaration = acceptance.declared(["cluster=here.yaml"], 2)
    (found,) = acceptance.Acceptance(declaration, folder.results, cancel).run()
    assert re.fullmatch(r"undisturbed: job \d+ is over: CANCELLED.*", found.found)


@pytest.mark.usefixtures("short")
def test_an_acceptance_that_takes_too_long_is_given_up(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptance, "SECONDS", 6.0)
    found = findings(folder, monkeypatch, full=True)["acceptance"]
    assert "not done within" in found.found
    until(lambda: not jobs(folder, "acceptance"), 30)
