"""``harness sweep`` and ``harness retry``: what they say, ask, refuse and leave."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.store.record import Record

pytestmark = pytest.mark.e2e

FEW = ["axes.loss=[dcl]", "axes.batch_size=[256]", "axes.seed=1"]


def harness(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli.main", *arguments]
    return subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


@pytest.fixture
def folder(tiny: Path) -> Path:
    """Where the experiment lies, without its other scales, whose cost every sweep would measure."""
    tiny.write_text(tiny.read_text().partition("  wide:")[0])
    return tiny.parent


def records(folder: Path) -> list[Record]:
    return [Record(path) for path in sorted((folder / "results/runs").iterdir())]


def test_a_dry_run_prints_what_would_run_and_writes_nothing(folder: Path) -> None:
    done = harness("sweep", "tiny.yaml", *FEW, "--dry-run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert not (folder / "results").exists()
    prepared, name, script = done.stdout.splitlines()
    assert prepared.startswith("# ")
    assert name.startswith("# ")
    assert harness("sweep", "tiny.yaml", *FEW, cwd=folder).returncode == 0
    (record,) = records(folder)
    request = json.loads(shlex.split(script)[1])
    assert request["record"] == f"results/runs/{record.cell_id}"
    submission = record.submission()
    assert submission
    submitted = submission.to_json()
    assert request["submission"] == {key: submitted[key] for key in request["submission"]}


def test_a_dry_run_leaves_out_what_a_sweep_would_refuse(folder: Path) -> None:
    with_limit = (
        "import sys; sys.argv = ['harness', 'sweep', 'tiny.yaml', *{words!r}]\n"
        "import harness.sweep.launch as launch; launch.memory_bytes = lambda device: 2**20\n"
        "import harness.cli.main; harness.cli.main.main()"
    )
    command = [sys.executable, "-c", with_limit.format(words=[*FEW, "--dry-run"])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "of memory, this machine has 1 MiB" in done.stdout
    assert all(line.startswith("#") for line in done.stdout.splitlines())


def test_a_sweep_whose_cells_a_second_one_would_leave_out_is_not_forgotten(folder: Path) -> None:
    words = ["sweep", "tiny.yaml", "axes.loss=[dcl]", "axes.batch_size=[64]", "axes.epochs=[40]", "cluster.slots=1"]
    command = [sys.executable, "-m", "harness.cli.main", *words, "axes.seed=2"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as first:
        deadline = time.monotonic() + 60
        while not list((folder / "results").glob("runs/*/attempts/1")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        fewer = harness(*words, "axes.seed=[0]", cwd=folder)
        assert fewer.returncode == 2
        assert "a sweep of tiny.demo goes on" in fewer.stderr
        assert "1 cell that it has yet to finish would be left out" in fewer.stderr
        first.send_signal(signal.SIGINT)
        said = first.stdout.read() if first.stdout else ""
    assert "Go on with" in said
    assert harness(*words, "axes.seed=[0]", "--dry-run", cwd=folder).returncode == 0


def test_what_costs_much_is_asked_about_and_nobody_answers_for_a_script(folder: Path) -> None:
    dear = [*FEW, "cluster.ask_hours=0.000001"]
    asked = harness("sweep", "tiny.yaml", *dear, cwd=folder)
    assert asked.returncode == 2
    assert "device-hours" in asked.stderr
    assert "--yes" in asked.stderr
    assert not (folder / "results").exists()
    assert harness("sweep", "tiny.yaml", *dear, "--yes", cwd=folder).returncode == 0


@pytest.mark.parametrize("option", ["--wait", "--allow-code-drift"])
def test_options_of_jobs_are_for_a_cluster_and_the_message_has_the_command_without(folder: Path, option: str) -> None:
    done = harness("sweep", "tiny.yaml", *FEW, option, cwd=folder)
    assert done.returncode == 2
    assert f"{option} is for jobs of a cluster" in done.stderr
    assert f"harness sweep tiny.yaml '{FEW[0]}' '{FEW[1]}' {FEW[2]}\n" in done.stderr
    assert not (folder / "results").exists()


def test_a_diverged_cell_is_not_tried_again_by_a_sweep_but_by_retry(folder: Path) -> None:
    bad = [*FEW, "optimizer.lr=1e30"]
    first = harness("sweep", "tiny.yaml", *bad, cwd=folder)
    assert first.returncode == 1
    assert "FAILED: Diverged" in first.stdout
    (record,) = records(folder)
    assert len(record.attempts()) == 1

    again = harness("sweep", "tiny.yaml", *bad, cwd=folder)
    assert again.returncode == 1
    assert f"harness retry {record.cell_id}" in again.stdout
    assert len(record.attempts()) == 1

    unasked = harness("retry", record.cell_id, cwd=folder)
    assert unasked.returncode == 2
    assert len(record.attempts()) == 1
    retried = harness("retry", record.cell_id, "--yes", "--json", cwd=folder)
    assert retried.returncode == 1
    assert [cell["state"] for cell in json.loads(retried.stdout)] == ["failed"]
    assert len(record.attempts()) == 2


PLUGIN = """
import os, torch
def fragile(z1, z2, *, temperature=0.1):
    if len(z1) == 256 and not os.path.exists(os.environ["MENDED"]):
        raise RuntimeError("no such table")
    return -(z1 * z2).sum(1).mean()
"""


def test_when_all_cells_fail_alike_the_sweep_stops_and_goes_on_once_mended(folder: Path) -> None:
    (folder / "fragile.py").write_text(PLUGIN)
    mended = folder / "mended"
    words = ["sweep", "tiny.yaml", "axes.loss=[fragile]", "axes.batch_size=[256]", "axes.seed=6", "failures.retries=0",
             "--plugin", "fragile.py"]  # fmt: skip
    first = harness(*words, "cluster.slots=1", cwd=folder, MENDED=str(mended))
    assert first.returncode == 1
    assert "The sweep was stopped: the first 3 cells all failed alike: RuntimeError: no such table" in first.stdout
    assert sum(bool(record.attempts()) for record in records(folder)) == 3
    mended.touch()
    second = harness(*words, "cluster.slots=1", cwd=folder, MENDED=str(mended))
    assert second.returncode == 0, second.stdout
    assert all(record.state() == "finished" for record in records(folder))


def test_stale_cells_are_left_alone_until_asked_for(folder: Path) -> None:
    assert harness("sweep", "tiny.yaml", *FEW, cwd=folder).returncode == 0
    raised = (
        "import sys, dataclasses; sys.argv = ['harness', 'sweep', 'tiny.yaml', *{words!r}]\n"
        "from harness.catalog.losses import LOSSES\n"
        "LOSSES['dcl'] = dataclasses.replace(LOSSES['dcl'], version=LOSSES['dcl'].version + 1)\n"
        "import harness.cli.main; harness.cli.main.main()"
    )
    for words, trained in (FEW, 1), ([*FEW, "--rerun-stale"], 2):
        command = [sys.executable, "-c", raised.format(words=words)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert "1 cell: 1 stale" in done.stdout, done.stderr
        assert len(records(folder)) == trained
