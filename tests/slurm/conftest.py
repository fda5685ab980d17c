"""A real Slurm for tests: ``slurm/dev-cluster``, which crashes nodes for real, and never any other cluster."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.slurm_cluster import START, WORKING, Cluster, configuration, missing
from tests.support.slurm_sweeps import LONG, Folder, computed_here, slurm

SCRIPT = Path(__file__).parents[2] / "slurm" / "dev-cluster"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The development cluster, also for every command that a test starts: SLURM_CONF is set."""
    conf = configuration()
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
    """``slurm/dev-cluster`` itself: ``dev_cluster("node", "crash", "4")``; for tests that are marked exclusive."""
    if os.geteuid():
        pytest.skip("only root can crash nodes")

    def run(*words: str) -> None:
        folder = {"HARNESS_SLURM_DIR": str(cluster.conf.parent)}
        done = subprocess.run(
            [SCRIPT, *words], env={**os.environ, **folder}, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@contextmanager
def locked(path: Path, how: int) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, how)
        yield


@pytest.fixture(scope="session")
def cache(shared_cache: Path) -> Path:
    """What all workers and all passes of tools/slurm_tests.py share: measured costs, kept images, an empty store."""
    given = os.environ.get("HARNESS_SLURM_CACHE")
    folder = Path(given) if given else shared_cache.parent / "slurm-cache"
    folder.mkdir(exist_ok=True)
    with locked(folder / "lock", fcntl.LOCK_EX):
        if not (store := folder / "mlflow.db").exists():
            create = f"import mlflow; mlflow.MlflowClient('sqlite:///{folder}/new.db').search_experiments()"
            subprocess.run([sys.executable, "-c", create], capture_output=True, check=True)
            (folder / "new.db").rename(store)
    return folder


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Iterator[Folder]:
    made = Folder(tmp_path / "shared", cache)
    yield made
    if jobs := made.jobs() if made.results.exists() else []:
        slurm("scancel", *jobs)


@pytest.fixture(scope="session")
def calm(cache: Path) -> dict[str, object]:
    """The numbers of the long cell, computed here in one go, by whichever worker needs them first."""
    with locked(cache / "calm.lock", fcntl.LOCK_EX):
        return computed_here(cache / "calm", cache, *LONG)[0]


@pytest.fixture(autouse=True)
def _in_turn(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[None]:
    """Whatever the number of workers: a test that is marked exclusive has the cluster for itself, others share it; and
    each begins with all nodes (a controller that has just been started does not know them yet).

    Who waits for the room keeps the door closed, so that those who share cannot keep out one that does not.
    """
    exclusive = request.node.get_closest_marker("exclusive")
    assert exclusive or "dev_cluster" not in request.fixturenames, "who stops daemons or nodes is exclusive"
    door, room = (cluster.conf.with_suffix(f".{name}") for name in ("door", "room"))
    with room.open("w") as inside:
        with locked(door, fcntl.LOCK_EX):
            fcntl.flock(inside, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        cluster.until(
            lambda: set(cluster.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split()) <= WORKING, "nodes"
        )
        yield
