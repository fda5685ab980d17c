"""Reports of many cells, and of cells that are not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from harness.cell import versionless_id
from harness.manifest import Exclusion, Manifest
from harness.store.index import Index
from harness.store.outcome import Outcome
from harness.store.record import Record
from harness.store.submission import Submission
from harness.store.sweeps.ledger import Ledger, Policy
from harness.study.frame import tidy
from harness.study.report import content as printing
from harness.study.report.content import content, study
from harness.study.report.plots import accuracy as plots
from harness.study.report.report import write_report

pytestmark = pytest.mark.e2e

Synthetic = Callable[..., tuple[Manifest, Path]]


def test_what_was_left_out_is_said_in_pdf_and_file(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(lambda axes: 50.0)
    excluding = replace(manifest, exclusions=[Exclusion("loss=vicreg", "it diverges", 4)])
    written = write_report(excluding, results, tmp_path)
    assert written.excluded
    assert pd.read_csv(written.excluded).to_dict("records") == [
        {"where": "loss=vicreg", "reason": "it diverges", "cells": 4}
    ]
    assert content(study(tidy(excluding, results))).excluded == ["loss=vicreg (4 cells): it diverges."]
    assert write_report(manifest, results, tmp_path).excluded is None
    assert not written.excluded.exists()


def test_states_of_cells_that_have_not_finished_are_counted(synthetic: Synthetic) -> None:
    manifest, results = synthetic(lambda axes: 50.0 if axes["seed"] == 0 else None)
    old = replace(Record(results / "runs" / Index(results / "runs").cell_ids()[0]).cell(), seed=2, versions={"loss": 0})
    Record.prepare(results / "runs", old).begin().end(Outcome("finished", metrics={}))
    (stale,) = [cell.cell_id for cell in manifest.cells if cell.versionless_id == versionless_id(old)]
    queued = next(cell.cell_id for cell in manifest.cells if cell.axes["seed"] == 1)
    (results / "runs" / queued / "attempts").mkdir(parents=True)
    ledger = Ledger.open(results, manifest.name, Policy())
    Record(results / "runs" / queued).submit(Submission(sweep=ledger.path.name))
    table = tidy(manifest, results)
    states = table.frame.set_index("cell_id")["state"]
    assert (states[queued], states[stale]) == ("queued", "stale")
    cells = dict(content(study(table)).run)["Cells"]
    assert cells == "6 missing, 4 finished, 1 queued, 1 stale; 12 declared."


def test_long_tables_are_cut_and_say_where_the_whole_is(
    synthetic: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, results = synthetic(lambda axes: 50.0)
    monkeypatch.setattr(printing, "MOST_ROWS", 3)
    printed = content(study(tidy(manifest, results)))
    assert len(printed.appendix.rows) == len(printed.table.rows) == 3
    assert printed.appendix.note == "The first 3 of 12 rows; all of them are in tiny.demo.csv."
    assert printed.table.note == "The first 3 of 4 rows; all of them are in tiny.demo.table.csv."
    assert write_report(manifest, results, tmp_path).files["PDF"].read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    "overrides",
    [["axes.temperature=[0.1,0.2,0.3]"], ["axes.batch_size=[64]", "axes.method=[simclr,moco]"]],
    ids=["settings", "arms"],
)
def test_a_plot_of_more_than_fits_a_page_says_so(
    synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    manifest, results = synthetic(lambda axes: 50.0, *overrides)
    monkeypatch.setattr(plots, "MOST_PANELS", 2)
    monkeypatch.setattr(plots, "MOST_ROWS", 2)
    svg = plots.accuracy(tidy(manifest, results), results)[0].read_text()
    assert "the first 2 of " in svg
