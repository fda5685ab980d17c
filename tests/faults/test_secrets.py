"""The password of a tracking server is neither written nor shown, and reaches the server all the same."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.manifest import Manifest
from harness.sweep.tracking import mirror_process
from harness.sweep.tracking.mirror_process import MirrorProcess
from harness.sweep.tracking.tracking_uri import VARIABLE, public
from tests.support.prepared import prepared
from tests.support.refusing_server import refusing

PASSWORD = "S3cr3t"
HEADER = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
CELL = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0]"]


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli.main", *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def with_secrets(folder: Path) -> list[str]:
    """The files below a folder in which the password stands, plain or as a header."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        str(path) for path in files if PASSWORD.encode() in path.read_bytes() or HEADER.encode() in path.read_bytes()
    ]


@pytest.mark.parametrize("status", [403, 500])
@pytest.mark.parametrize("where", ["environment", "argument"])
def test_no_record_log_or_line_of_a_sweep_holds_the_password(tiny: Path, where: str, status: int) -> None:
    with refusing(status) as (port, seen):
        uri = f"http://alice:{PASSWORD}@127.0.0.1:{port}"
        environment = {VARIABLE: uri} if where == "environment" else {}
        words = ["--tracking-uri", uri] if where == "argument" else []
        swept = run(tiny.parent, "sweep", "tiny.yaml", *CELL, *words, **environment)
        synced = run(tiny.parent, "sync", *words, **environment)
        listed = run(tiny.parent, "sync", "--json", *words, **environment)
    assert seen == {f"Basic {HEADER}"}
    assert (swept.returncode, synced.returncode) == (0, 1)
    for done in (swept, synced, listed):
        assert PASSWORD not in done.stdout + done.stderr
        assert ("can read the password in --tracking-uri" in done.stderr) == (where == "argument")
    assert f"harness sync tiny.demo --tracking-uri {public(uri)}" in swept.stdout
    assert with_secrets(tiny.parent) == []
    assert (tiny.parent / "results" / "mlflow-mirror.log").read_text(), "the log says what went wrong"


def test_the_password_is_not_in_the_arguments_of_the_mirror(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_process, "SERVER_SECONDS", 0.0)
    results, manifest = tiny.parent / "results", prepared(tiny, CELL)
    uri = f"postgresql://alice:{PASSWORD}@127.0.0.1:9/x"
    with MirrorProcess(results, Manifest.file(results, manifest.name), uri) as process:
        words = psutil.Process(process.pid).cmdline()
    assert "postgresql://alice@127.0.0.1:9/x" in words
    assert PASSWORD not in " ".join(words)


@pytest.mark.parametrize(
    "uri",
    [
        f"postgresql://alice:{PASSWORD}@127.0.0.1:9/x",
        f"mysql+pymysql://alice:{PASSWORD}@127.0.0.1:9/x",
        f"nonsense://alice:{PASSWORD}@127.0.0.1:9/x",
        f"http://alice:{PASSWORD}@127.0.0.1:9",
        f"http://alice:{PASSWORD}@[::1",
        f"http://alice:{PASSWORD}@host:port",
    ],
)
def test_a_store_that_cannot_be_reached_is_said_without_the_password(tiny: Path, uri: str) -> None:
    manifest = prepared(tiny, CELL)
    attach = (
        "import sys; from pathlib import Path; from harness.cli import report; from harness.manifest import Manifest\n"
        "results = Path('results')\n"
        "report._attach(Manifest.read(results, sys.argv[1]), [], results, sys.argv[2])"
    )
    synced = run(tiny.parent, "sync", **{VARIABLE: uri})
    command = [sys.executable, "-c", attach, manifest.name, uri]
    attached = subprocess.run(command, cwd=tiny.parent, capture_output=True, text=True, check=True)
    assert synced.returncode in (1, 2)
    assert "MLflow:   not reached" in attached.stdout
    for done in (synced, attached):
        assert PASSWORD not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert with_secrets(tiny.parent) == []


def test_what_a_library_prints_is_shown_without_the_password(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, manifest = tiny.parent / "results", prepared(tiny, CELL)
    uri = f"http://alice:{PASSWORD}@127.0.0.1:9"
    chatty = (
        "import sys, logging; from harness.sweep.tracking import mirror\n"
        "class Chatty(mirror.Mirror):\n"
        "    def __init__(self, results, manifest, uri):\n"
        "        print('at', uri, file=sys.stderr); logging.getLogger('x').warning('to %s', uri)\n"
        "        print('here', uri); raise RuntimeError(uri)\n"
        "mirror.Mirror = Chatty\n"
        "sys.exit(mirror.main())"
    )
    words = [sys.executable, "-c", chatty, str(results), str(Manifest.file(results, manifest.name)), public(uri)]
    environment = {**os.environ, VARIABLE: uri}
    done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    for line in ("at ***", "to ***", "here ***", "RuntimeError: ***"):
        assert line.replace("***", "http://***@127") in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
