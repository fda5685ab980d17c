"""A real Slurm for tests: ``slurm/dev-cluster``, which crashes nodes for real, and never any other cluster."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.slurm.sweeps import LONG, Folder, computed_here, slurm

SCRIPT = Path(__file__).parents[2] / "slurm" / "dev-cluster"
START = "slurm/dev-cluster install && slurm/dev-cluster up"
CALL_SECONDS = 90.0
WORKING = {"idle", "mixed", "allocated", "completing"}


@dataclass
class Cluster:
    """Slurm's commands, for tests; ``jobs``: those submitted here, cancelled at the end."""

    conf: Path
    jobs: list[str] = field(default_factory=list)

    def ask(self, *command: str) -> str:
        """What a command prints that may not fail."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_SECONDS, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
        return done.stdout

    def submit(self, script: str, output: Path, *options: str) -> str:
        """A job of this shell script, which prints into ``output``, also when it runs again; its id."""
        path = output.with_suffix(".sh")
        path.write_text(f"#!/bin/bash\n{script}\n")
        command = ["sbatch", "--parsable", f"--output={output}", "--open-mode=append", *options, str(path)]
        self.jobs.append(self.ask(*command).strip())
        return self.jobs[-1]

    def state(self, job: str) -> str:
        return self.ask("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()

    def runs(self, job: str) -> list[str]:
        """How each run of a job ended, or goes, by the accounting."""
        return self.ask("sacct", "-D", "-X", "-n", "-P", "-j", job, "-o", "State").split()

    def node_state(self, name: str) -> str:
        return self.ask("sinfo", "-h", "-p", "main", "-n", name, "-o", "%T").strip()

    def until(self, true: Callable[[], bool], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            queue = self.ask("squeue", "-t", "all") if time.monotonic() > deadline else ""
            assert not queue, f"not within {seconds:.0f} seconds: {what}\n{queue}"
            time.sleep(0.25)

    def ended(self, job: str, *runs: str) -> None:
        """Wait until the accounting says so of a job's runs."""
        self.until(lambda: self.runs(job) == [*runs], f"job {job}: {', '.join(runs)}")


def missing(conf: Path) -> str:
    """Why there is no development cluster here; empty where there is."""
    if not conf.is_file():
        return f"there is no {conf}"
    try:
        done = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, timeout=CALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode:
        return f"Slurm does not answer ({done.stderr.strip().splitlines()[-1]})"
    return "" if "= harness-dev\n" in done.stdout else f"{conf} is that of another cluster"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The development cluster, also for every command that a test starts: SLURM_CONF is set."""
    folder = Path(os.environ.get("HARNESS_SLURM_DIR", "/tmp/harness-slurm"))
    conf = Path(os.environ.get("SLURM_CONF", folder / "slurm.conf"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(conf))
        if why := missing(conf):
            why = f"no development cluster: {why}; start it:  {START}"
            if os.environ.get("HARNESS_REQUIRE_SLURM") == "1":
                pytest.fail(why)
            pytest.skip(why)
        made = Cluster(conf)
        yield made
        if made.jobs:
            made.ask("scancel", *made.jobs)


@pytest.fixture(scope="session")
def dev_cluster(cluster: Cluster) -> Callable[..., None]:
    """``slurm/dev-cluster`` itself: ``dev_cluster("node", "crash", "4")``."""
    if os.geteuid():
        pytest.skip("only root can crash nodes")

    def run(*words: str) -> None:
        folder = {"HARNESS_SLURM_DIR": str(cluster.conf.parent)}
        done = subprocess.run(
            [SCRIPT, *words], env={**os.environ, **folder}, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What cells cost is measured once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Iterator[Folder]:
    made = Folder(tmp_path / "shared", cache)
    yield made
    if jobs := made.jobs() if made.results.exists() else []:
        slurm("scancel", *jobs)


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, object]:
    """The numbers of the long cell, computed here in one go."""
    return computed_here(tmp_path_factory.mktemp("calm"), cache, *LONG)[0]


@pytest.fixture(autouse=True)
def _in_turn(cluster: Cluster) -> Iterator[None]:
    """Tests crash nodes and fill them: one at a time has the cluster, whatever the number of workers, and all its nodes
    (a controller that has just been started does not know them yet)."""
    with cluster.conf.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        cluster.until(
            lambda: set(cluster.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split()) <= WORKING, "nodes"
        )
        yield
