"""Tracking servers that are dead, hang, are full, or are killed: training goes on, and ``harness sync`` completes."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient

from harness.cli import report
from harness.manifest import Manifest
from harness.store.outcome import Outcome
from harness.store.record import Busy, Record
from harness.store.signs_of_life import STALE_SECONDS
from harness.store.writer_lock import writer_lock
from harness.sweep.tracking import mirror_process
from harness.sweep.tracking.mirror import Follower, SetAside
from harness.sweep.tracking.mirror_process import MirrorProcess
from harness.sweep.tracking.tracking_uri import default_uri, lock_folder
from tests.faults.machines import set_age, wait_until
from tests.support.prepared import prepared
from tests.support.refusing_server import refusing

EPOCHS = 200
FOLLOW = "import sys; from harness.sweep.tracking import mirror; mirror.EVERY_SECONDS = 0.2; sys.exit(mirror.main())"


@pytest.fixture
def manifest(tiny: Path) -> Manifest:
    return prepared(tiny, ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0,1,2,3]"])


@pytest.fixture
def results(tiny: Path) -> Path:
    return tiny.parent / "results"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror has the lowest priority: on a busy machine it takes long."""
    monkeypatch.setattr(mirror_process, "EMBEDDED_SECONDS", 240.0)


def begin_and_finish(results: Path, manifest: Manifest, between: Callable[[], object]) -> None:
    """All cells: half of their epochs, something else, the other half."""
    attempts = [Record(results / "runs" / cell.cell_id).begin() for cell in manifest.cells]
    for epoch in range(EPOCHS):
        if epoch == EPOCHS // 2:
            between()
        for attempt in attempts:
            attempt.log_event(20 * epoch, {"loss": 1 / (epoch + 1), "val_knn": float(epoch)}, epoch=epoch)
    for attempt in attempts:
        attempt.end(Outcome("finished", metrics={"test_knn": 1.0}, evaluation=manifest.evaluation))


def sync(results: Path, uri: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli.main", "sync", "--results", str(results), "--tracking-uri", uri]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that answers every request with this status."""
    with refusing(status) as (port, _):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def hanging() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def closed() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (hanging, "timed out"),
        (closed, "Connection refused"),
        (lambda: answering(500), "500"),
        (lambda: answering(507), "507"),
    ],
    ids=["hangs", "dead", "fails", "full"],
)
def test_a_server_that_takes_nothing_costs_a_sweep_seconds_and_is_said_in_one_line(
    server: Callable[[], AbstractContextManager[str]],
    said: str,
    results: Path,
    manifest: Manifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mirror_process, "SERVER_SECONDS", 2.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    with server() as uri:
        began = time.monotonic()
        with MirrorProcess(results, Manifest.file(results, manifest.name), uri) as process:
            assert time.monotonic() - began < 10, "a sweep waited for a server"
            begin_and_finish(results, manifest, lambda: None)
            ended = time.monotonic()
        assert time.monotonic() - ended < 20, "its end waited for long"
        assert not process.complete
        done = sync(results, uri)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stdout + done.stderr == f"{done.stderr.splitlines()[0]}\n"


def test_a_server_that_comes_later_gets_everything_and_one_that_was_killed_lacks_nothing_after_a_sync(
    tmp_path: Path, results: Path, manifest: Manifest
) -> None:
    database, port = tmp_path / "server.db", free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", FOLLOW, str(results), str(Manifest.file(results, manifest.name)), uri]
    follower = subprocess.Popen(command, stdin=subprocess.PIPE)
    servers: list[subprocess.Popen[bytes]] = []

    def start_and_kill() -> None:
        servers.append(start(database, port))
        deadline = time.monotonic() + 60
        while stored(database)[0] < EPOCHS and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(servers[0].pid, signal.SIGKILL)

    try:
        begin_and_finish(results, manifest, start_and_kill)
        assert 0 < stored(database)[0] < 4 * EPOCHS * 2
        follower.communicate(timeout=60)
        assert follower.returncode == 1
        servers.append(start(database, port))
        first, second = sync(results, uri), sync(results, uri)
    finally:
        follower.kill()
        for server in servers:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    assert (first.returncode, first.stderr) == (0, "")
    assert second.stdout == "tiny.demo: 0 runs and 0 points added\n"
    points = len(manifest.cells) * (2 * EPOCHS + 1)
    assert stored(database) == (points, points)


def start(database: Path, port: int) -> subprocess.Popen[bytes]:
    """A real tracking server, once it answers."""
    store = ["--backend-store-uri", f"sqlite:///{database}", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *store, "--workers", "1"],
        cwd=database.parent,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return server
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")


def stored(database: Path) -> tuple[int, int]:
    """How many points there are, and how many different ones."""
    with closing(sqlite3.connect(database, timeout=30)) as store:
        counts: tuple[int, int] = store.execute(
            "select count(*), count(distinct run_uuid || ' ' || key || ' ' || step) from metrics"
        ).fetchone()
        return counts


def tables(results: Path) -> int:
    """How many tables the store, or its draft, has; 0 while there is none."""
    drafts = [*results.glob("mlflow.db"), *results.glob(".mlflow.db.*/mlflow.db")]
    with suppress(sqlite3.Error, IndexError), closing(sqlite3.connect(drafts[0], timeout=0)) as store:
        return int(store.execute("select count(*) from sqlite_master where type = 'table'").fetchone()[0])
    return 0


def runs(results: Path) -> int:
    with suppress(sqlite3.Error), closing(sqlite3.connect(results / "mlflow.db", timeout=0)) as store:
        return int(store.execute("select count(*) from runs").fetchone()[0])
    return 0


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "the creation has begun": lambda results: any(results.glob(".mlflow.db.*")),
    "a tenth of the tables are there": lambda results: tables(results) > 5,
    "half of the tables are there": lambda results: tables(results) > 25,
    "the store is there": lambda results: (results / "mlflow.db").exists(),
    "one run is there": lambda results: runs(results) > 0,
    "three runs are there": lambda results: runs(results) > 2,
}


def follow(results: Path) -> list[str]:
    """Return the command that mirrors these results until its standard input closes."""
    return [
        sys.executable,
        "-c",
        FOLLOW,
        *map(str, (results, Manifest.file(results, "tiny.demo"))),
        default_uri(results),
    ]


@pytest.mark.tried("kills", "the mirror, at six moments; `harness sync` completes the store")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_mirror_that_is_killed_leaves_a_store_that_sync_completes(
    moment: str, results: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(results / "cache"))  # so that the store is created step by step
    begin_and_finish(results, manifest, lambda: None)
    with subprocess.Popen(follow(results), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not MOMENTS[moment](results):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.kill()
    done = sync(results, default_uri(results))
    assert done.returncode == 0, done.stderr
    assert runs(results) == len(manifest.cells)
    points = len(manifest.cells) * (2 * EPOCHS + 1)
    assert stored(results / "mlflow.db") == (points, points)
    assert not [*results.glob(".mlflow.db.*"), *results.glob("*damaged*")]


def test_a_mirror_that_is_killed_is_said_in_its_log(results: Path, manifest: Manifest) -> None:
    with MirrorProcess(results, Manifest.file(results, "tiny.demo"), default_uri(results)) as process:
        os.kill(process.pid, signal.SIGKILL)
    assert not process.complete
    assert "killed by SIGKILL; harness sync writes what is missing" in process.log.read_text()


def test_a_mirror_that_is_too_slow_is_said_in_its_log(
    results: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_process, "EMBEDDED_SECONDS", 0.0)
    with MirrorProcess(results, Manifest.file(results, "tiny.demo"), default_uri(results)) as process:
        begin_and_finish(results, manifest, lambda: None)
    assert not process.complete
    assert "ended before its last pass was complete, 0 s after the sweep" in process.log.read_text()


def test_a_mirror_gives_way_to_training_only_when_the_store_is_there(
    results: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(results / "cache"))
    with subprocess.Popen(follow(results), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        watched, before = psutil.Process(process.pid), []
        while not (results / "mlflow.db").exists():
            before.append(watched.nice())
            time.sleep(0.01)
        assert set(before) == {os.nice(0)}
        assert process.stdout is not None
        assert process.stdout.readline() == b'"ready"\n'
        assert watched.nice() == 19


@pytest.mark.parametrize("what", ["a run", "all runs", "the experiment", "the store", "the store's content"])
def test_what_is_deleted_while_a_sweep_goes_on_is_there_when_it_ends(
    what: str, results: Path, manifest: Manifest
) -> None:
    with subprocess.Popen(follow(results), stdin=subprocess.PIPE) as process:

        def delete() -> None:
            deadline = time.monotonic() + 120
            while runs(results) < len(manifest.cells):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            if what == "the store":
                (results / "mlflow.db").unlink()
            elif what == "the store's content":
                with writer_lock_when_free(results):
                    (results / "mlflow.db").write_text("these are words, and no database")
            else:
                delete_in_mlflow(results, what)

        begin_and_finish(results, manifest, delete)
        process.communicate(timeout=120)
    assert process.returncode == 0
    client = MlflowClient(default_uri(results))
    experiment = client.get_experiment_by_name("tiny.demo")
    cells = [run.data.tags["harness.cell_id"] for run in client.search_runs([experiment.experiment_id])]
    assert sorted(cells) == sorted(cell.cell_id for cell in manifest.cells)
    assert all(len(client.get_metric_history(run.info.run_id, "loss")) == EPOCHS
               for run in client.search_runs([experiment.experiment_id]))  # fmt: skip


def delete_in_mlflow(results: Path, what: str) -> None:
    client = MlflowClient(default_uri(results))
    experiment = client.get_experiment_by_name("tiny.demo").experiment_id
    found = list(client.search_runs([experiment]))
    if what == "the experiment":
        client.delete_experiment(experiment)
    for run in found[: 1 if what == "a run" else len(found)] if what != "the experiment" else []:
        client.delete_run(run.info.run_id)


@contextmanager
def writer_lock_when_free(results: Path) -> Iterator[None]:
    """The mirror waits meanwhile, so that what is done to the store does not meet one of its writes."""
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(writer_lock(lock_folder(results, default_uri(results))))
                break
            except Busy:
                time.sleep(0.01)
        yield


@pytest.mark.usefixtures("patient")
def test_a_sweep_goes_on_where_the_log_of_its_mirror_cannot_be_written(results: Path, manifest: Manifest) -> None:
    (results / "mlflow-mirror.log").mkdir(parents=True)
    with MirrorProcess(results, Manifest.file(results, "tiny.demo"), default_uri(results)) as process:
        begin_and_finish(results, manifest, lambda: None)
    assert process.complete
    assert "its log cannot be written" in process.notes[0]


@pytest.mark.usefixtures("patient")
def test_a_sweep_says_that_it_has_replaced_a_damaged_store(results: Path, manifest: Manifest) -> None:
    (results / "mlflow.db").write_text("these are words, and no database")
    with MirrorProcess(results, Manifest.file(results, "tiny.demo"), default_uri(results)) as process:
        begin_and_finish(results, manifest, lambda: None)
    assert process.complete
    assert "is now mlflow.damaged-1.db; a new one is filled from the records" in process.notes[0]
    assert process.notes[0] in process.log.read_text()


def test_a_store_that_is_damaged_again_and_again_is_one_that_fails(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def replace(self: Follower) -> bool:
        raise SetAside("mlflow.db was damaged", "harness sync brings it back")

    monkeypatch.setattr(Follower, "_mirror_once", replace)
    closed, notes, ready = threading.Event(), list[str](), list[None]()
    closed.set()
    manifest = Manifest.file(results, "tiny.demo")
    follower = Follower(results, manifest, default_uri(results), print, lambda: ready.append(None), notes.append)
    assert not follower.follow(closed)
    assert (len(notes), len(ready)) == (2, 1)
    assert "mlflow.db was damaged" in capsys.readouterr().err


def test_a_report_waits_for_the_writer_and_then_says_who_it_is(
    results: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "BUSY_SECONDS", 1.0)
    with writer_lock(lock_folder(results, default_uri(results))):
        report._attach(manifest, [], results, "")
    assert f"another mirror is at work: attempt 1, process {os.getpid()} on " in capsys.readouterr().out
    assert not (results / "mlflow.db").exists()
    report._attach(manifest, [], results, "")
    assert capsys.readouterr().out == ""
    assert runs(results) == 1


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.tried("frozen processes", "the mirror's process; `harness sync` takes its store over, then it goes on")
def test_a_mirror_that_is_stopped_and_goes_on_doubles_no_point(results: Path, manifest: Manifest) -> None:
    locks = Record(lock_folder(results, default_uri(results)))
    with subprocess.Popen(follow(results), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:

        def freeze() -> None:
            wait_until((results / "mlflow.db").exists)
            process.send_signal(signal.SIGSTOP)

        begin_and_finish(results, manifest, freeze)
        for attempt in locks.attempts():
            set_age(attempt.heartbeat_file if attempt.heartbeat_file.exists() else attempt.path, 2 * STALE_SECONDS)
        try:
            done = sync(results, default_uri(results))
        finally:
            process.send_signal(signal.SIGCONT)
        assert done.returncode in (0, 1), "the stopped process may hold the database itself"
        process.communicate(timeout=280)
    assert process.returncode in (0, 1)
    done = sync(results, default_uri(results))
    assert done.returncode == 0, done.stderr
    points = len(manifest.cells) * (2 * EPOCHS + 1)
    assert stored(results / "mlflow.db") == (points, points)
