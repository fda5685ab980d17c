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
from harness.sweep import launch
from harness.sweep.cluster import SubmittedSweep
from harness.sweep.plan.plan import CostEstimate, PlanEstimate
from tests.support.fake_slurm import FakeSlurm, sweep_of


class NoMirror(contextlib.nullcontext[None]):
    """A mirror that mirrors nothing and has nothing to say."""

    notes = ()

    def __init__(self, *_: object) -> None:
        super().__init__()


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """No mirror is started, and nothing is known of what cells cost."""
    monkeypatch.setattr(run_on_cluster, "MirrorProcess", NoMirror)
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


@pytest.mark.parametrize("wait", [False, True])
def test_a_cell_that_fits_on_no_node_is_left_out_by_name_and_the_exit_code_says_so(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str], wait: bool
) -> None:
    sweep = sweep_of(tiny, monkeypatch, "cluster.memory=2")
    entries = sweep.declared.plan.entries
    needs = {entry.cell.cell_id: CostEstimate(60.0, False, None, 3 * 2**30, 1) for entry in entries}
    estimate = PlanEstimate(entries[1:], entries[:1], needs, 0.1, 2 * 2**30)
    monkeypatch.setattr(SubmittedSweep, "estimate", lambda self, entries: estimate)
    slurm.acts = ["ok", "ok"]
    with pytest.raises(typer.Exit) as ended:
        ClusterRun(sweep, "").run(yes=False, wait=wait)
    assert ended.value.exit_code == 1
    printed = capsys.readouterr().out
    assert "(1 cell) needs about 3.0 GiB of memory, a node has 2.0 GiB (cluster.memory)" in printed
    assert "2 cells submitted" in printed
    assert not entries[0].record.path.exists()


def test_where_all_that_is_missing_fits_on_no_node_nobody_says_that_nothing_is_missing(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = sweep_of(tiny, monkeypatch, "cluster.memory=2")
    entries = sweep.declared.plan.entries
    needs = {entry.cell.cell_id: CostEstimate(60.0, False, None, 3 * 2**30, 1) for entry in entries}
    estimate = PlanEstimate([], entries, needs, 0.0, 2 * 2**30)
    monkeypatch.setattr(SubmittedSweep, "estimate", lambda self, entries: estimate)
    with pytest.raises(typer.Exit):
        ClusterRun(sweep, "").run(yes=False, wait=False)
    assert "Nothing else is missing." in capsys.readouterr().out


def test_the_memory_of_this_machine_is_not_that_of_a_clusters_nodes(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm
) -> None:
    monkeypatch.setattr(launch, "memory_bytes", lambda device: 2**20)
    assert sweep_of(tiny, monkeypatch).declared.memory_limit is None
    assert sweep_of(tiny, monkeypatch, "cluster.memory=2").declared.memory_limit == 2 * 2**30


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
