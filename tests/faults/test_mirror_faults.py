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
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.manifest import Manifest
from harness.store.outcome import Outcome
from harness.store.record import Record
from harness.sweep.tracking import mirror_process
from harness.sweep.tracking.mirror_process import MirrorProcess
from tests.support.prepared import prepared

EPOCHS = 200
FOLLOW = "import sys; from harness.sweep.tracking import mirror; mirror.EVERY_SECONDS = 0.2; sys.exit(mirror.main())"


@pytest.fixture
def manifest(tiny: Path) -> Manifest:
    return prepared(tiny, ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0,1,2,3]"])


@pytest.fixture
def results(tiny: Path) -> Path:
    return tiny.parent / "results"


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

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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
