"""What ``harness sweep`` prints of a sweep on a cluster, with a Slurm that is played."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
import typer

from harness.cli.shared import run_on_cluster
from harness.cli.shared.run_on_cluster import ClusterRun
from harness.errors import UserError
from harness.sweep.cluster import SubmittedSweep
from tests.support.fake_slurm import FakeSlurm, sweep_of


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """No mirror is started, and nothing is known of what cells cost."""
    monkeypatch.setattr(run_on_cluster, "MirrorProcess", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(SubmittedSweep, "estimate", lambda self, entries: None)
    return FakeSlurm(monkeypatch)


def test_a_sweep_says_what_it_costs_and_what_is_submitted(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    ClusterRun(sweep_of(tiny, monkeypatch, "cluster.max_jobs=2"), "").run(yes=False, wait=False)
    *printed, status, mlflow, again = capsys.readouterr().out.splitlines()
    assert printed == [
        "tiny.demo: 3 cells: 3 missing",
        "3 cells to submit to main: at most 0.5 core-hours, if every cell needs its whole time limit; its cost is not "
        "known yet",
        "2 cells submitted as tiny.demo.1",
        "1 cell waits until there is room in the queue (cluster.max_jobs is 2)",
    ]
    assert status.startswith("status:   harness status tiny.demo")
    assert mlflow.startswith("MLflow:   harness sync tiny.demo")
    assert again == "again:    harness sweep tiny.yaml   (submits only what is missing)"


def test_what_costs_much_is_asked_about(tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm) -> None:
    run = ClusterRun(sweep_of(tiny, monkeypatch, "cluster.ask_hours=0.1"), "")
    with pytest.raises(UserError, match=r"more than 0.1 device-hours \(cluster.ask_hours\). Submit\?"):
        run.run(yes=False, wait=False)
    assert slurm.commands == []


def test_a_sweep_that_waits_prints_what_changes_and_exits_with_1_where_cells_have_failed(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.acts = ["ok", "ok", "error", "diverged"]
    with pytest.raises(typer.Exit) as ended:
        ClusterRun(sweep_of(tiny, monkeypatch), "").run(yes=False, wait=True)
    assert ended.value.exit_code == 1
    printed = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in capsys.readouterr().out.splitlines()]
    assert printed[2:-3] == [
        "3 cells submitted as tiny.demo.1",
        "3 cells: 2 finished, 1 failed",
        "1 cell submitted as tiny.demo.1",
    ]


def test_ctrl_c_ends_only_the_waiting(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: SubmittedSweep) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SubmittedSweep, "wait", interrupted)
    with pytest.raises(typer.Exit):
        ClusterRun(sweep_of(tiny, monkeypatch), "").run(yes=False, wait=True)
    assert "no longer waiting; the jobs go on" in capsys.readouterr().out
    assert [command for command in slurm.commands if command[0] == "scancel"] == []
