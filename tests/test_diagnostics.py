"""When embeddings count as collapsed, and who says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from harness.cli import main
from harness.cli.shared.load_experiment import load
from harness.diagnostics import collapse
from harness.ssl.attempt import run_cell
from harness.store.record import Record
from harness.store.submission import RunConfig, Submission
from harness.study.frame import tidy
from harness.study.report.abstract import abstract
from harness.study.report.content import content, study
from harness.study.report.report import write_report


@pytest.mark.parametrize(
    ("uniformity", "effective_rank", "words"),
    [
        (-0.05, 8.0, "embeddings are nearly one point (uniformity -0.05)"),
        (0.0, 1.0, "embeddings are nearly one point (uniformity 0.00)"),
        (-0.0999, 8.0, "embeddings are nearly one point (uniformity -0.10)"),
        (-0.1001, 8.0, ""),
        (-2.0, 1.2, "embeddings lie nearly on one line (effective rank 1.2)"),
        (-2.0, 1.499, "embeddings lie nearly on one line (effective rank 1.5)"),
        (-2.0, 1.501, ""),
        (-3.9, 40.0, ""),
    ],
)
def test_one_point_and_one_line_are_collapses(uniformity: float, effective_rank: float, words: str) -> None:
    assert collapse({"uniformity": uniformity, "effective_rank": effective_rank, "loss": 1.0}) == words


def test_a_record_without_diagnostics_is_not_called_collapsed() -> None:
    assert collapse({"val_knn": 11.0, "loss": 2.0}) == ""


@pytest.mark.e2e
def test_a_cell_that_really_collapsed_is_flagged_wherever_results_are_read(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # VICReg's invariance alone: what keeps the embeddings apart is switched off. InfoNCE beside it stays whole.
    axes = [
        "axes.loss=[infonce,vicreg]",
        "axes.batch_size=[64]",
        "~axes.temperature",
        "axes.seed=[0]",
        "axes.epochs=[3]",
    ]
    overrides = [*axes, "loss.variance=0", "loss.covariance=0", "head.hidden=16", "head.dim=16", "optimizer.lr=1"]
    results = tiny.parent / "results"
    declared = load(str(tiny), overrides, results)
    declared.manifest.write(results)
    for entry in declared.plan.entries:
        record = Record.prepare(results / "runs", entry.cell)
        record.submit(Submission(RunConfig(evaluation=declared.manifest.evaluation)))
        run_cell(record)
    whole, collapsed = (entry.cell.cell_id for entry in declared.plan.entries)

    monkeypatch.setattr(sys, "argv", ["harness", "status", "--results", str(results)])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert not ended.value.code
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "collapsed" in line]
    assert collapsed in line
    assert "loss=vicreg: embeddings are nearly one point (uniformity" in line

    written = write_report(declared.manifest, results, tiny.parent / "reports")
    said = pd.read_csv(written.files["data"], keep_default_na=False).set_index("cell_id")["collapse"]
    assert said[whole] == ""
    assert said[collapsed].startswith("embeddings are nearly one point")
    table = tidy(declared.manifest, results)
    printed = content(study(table))
    assert printed.collapsed == [f"{collapsed} (VICReg): {said[collapsed]}"]
    assert abstract([], table).endswith("; 1 collapsed.")


def test_an_encoder_that_has_not_been_trained_yet_is_not_called_collapsed(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tiny.parent / "results"
    declared = load(str(tiny), ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0]"], results)
    declared.manifest.write(results)
    (entry,) = declared.plan.entries
    attempt = Record.prepare(results / "runs", entry.cell).begin()
    attempt.log_event(0, {"uniformity": -0.004, "effective_rank": 1.4}, epoch=0)  # of random weights, as measured
    for collapsed in (False, True):
        monkeypatch.setattr(sys, "argv", ["harness", "status", "--results", str(results)])
        with pytest.raises(SystemExit):
            main.main()
        assert ("collapsed" in capsys.readouterr().out) == collapsed
        attempt.log_event(20, {"uniformity": -0.004, "effective_rank": 1.4}, epoch=1)
