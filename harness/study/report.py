"""The whole report of an experiment at a scale: CSV, tables, plot, PDF, verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.manifest import Manifest
from harness.study.claims import Verdict, judge
from harness.study.frame import tidy, write_csv
from harness.study.pdf import abstract, write_pdf
from harness.study.plots import accuracy
from harness.study.tables import write_tables


@dataclass(frozen=True)
class Report:
    """``answer`` in a sentence; ``files``: csv, table.csv, table.md, table.tex, svg, png and pdf, in this order.

    ``unevaluated``: how many cells have no numbers; ``excluded``: the file that says which were left out, and why.
    """

    answer: str
    files: list[Path]
    verdicts: list[Verdict]
    unevaluated: int
    excluded: Path | None


def write_report(manifest: Manifest, results: Path, reports: Path) -> Report:
    """Write everything from the manifest and the records alone."""
    frame = tidy(manifest, results)
    csv, pdf = results / f"{manifest.name}.csv", reports / f"{manifest.name}.pdf"
    write_csv(frame, csv)
    tables = write_tables(manifest, frame, results)
    plots = accuracy(manifest, frame, results)
    verdicts = judge(manifest, frame)
    write_pdf(manifest, frame, verdicts, plots[0], pdf)
    files = [csv, *tables, *plots, pdf]
    excluded = _write_excluded(manifest, results / f"{manifest.name}.excluded.csv")
    return Report(abstract(verdicts, frame), files, verdicts, int(frame["test_knn"].isna().sum()), excluded)


def _write_excluded(manifest: Manifest, path: Path) -> Path | None:
    path.unlink(missing_ok=True)
    if not manifest.exclusions:
        return None
    pd.DataFrame(manifest.exclusions).to_csv(path, index=False)
    return path
