"""The whole report of an experiment at a scale: CSV, tables, plot, claims, PDF."""

from __future__ import annotations

import dataclasses
import errno
import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.manifest import Manifest
from harness.study.claims.verdict_json import as_json
from harness.study.claims.verdicts import Verdict
from harness.study.frame import tidy, write_csv
from harness.study.report.content import Study, content, study
from harness.study.report.document import Chapter, Document
from harness.study.report.pdf import write_pdf
from harness.study.report.plots.accuracy import accuracy
from harness.study.report.plots.claim import claim_figure
from harness.study.report.plots.diagnostics import curves, gradients
from harness.study.report.plots.heatmap import heatmap
from harness.study.report.tables import write_tables


@dataclass(frozen=True)
class Report:
    """What was written: the ``answer`` in a sentence, and the ``files`` by what they are.

    ``unevaluated``: how many cells have no numbers; ``excluded``: the file that says which cells were left out and why;
    ``damaged``: which files of the records are damaged, each in a sentence;
    ``absent``: the characters of titles and labels that no font has.
    """

    answer: str
    files: Mapping[str, Path]
    verdicts: list[Verdict]
    unevaluated: int
    excluded: Path | None
    damaged: Sequence[str]
    absent: str


def write_report(manifest: Manifest, results: Path, reports: Path) -> Report:
    """Write the whole report of what a manifest declares, from the records of its cells.

    Who may only read the results gets everything in the folder of the reports.
    """
    table = tidy(manifest, results)
    gc.freeze()  # what 10,000 records bring into memory stays; to search it for garbage takes a tenth of a report
    judged = study(table)
    try:
        files, folder = _write_results(judged, results), results
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        reports.mkdir(parents=True, exist_ok=True)
        files, folder = _write_results(judged, reports), reports
    printed, figures = chapter(judged, files["plot"].read_bytes())
    files["PDF"] = reports / f"{manifest.name}.pdf"
    absent = write_pdf(Document(manifest.title, manifest.name, [printed]), figures, files["PDF"])
    excluded = _write_excluded(manifest, folder / f"{manifest.name}.excluded.csv")
    unevaluated = int(table.frame["test_knn"].isna().sum())
    return Report(judged.answer, files, judged.verdicts, unevaluated, excluded, table.damaged, absent)


def _write_results(study: Study, results: Path) -> dict[str, Path]:
    """Write data, tables, plot and claims into a folder, which is that of the records."""
    name = study.table.manifest.name
    csv, claims = results / f"{name}.csv", results / f"{name}.claims.json"
    write_csv(study.table, csv)
    tables = write_tables(study.table, results)
    svg, png = accuracy(study.table, results)
    claims.write_text(json.dumps(as_json(study.judged), indent=1) + "\n", encoding="utf-8")
    names = ("table", "table as Markdown", "table as LaTeX")
    return {"data": csv, **dict(zip(names, tables, strict=True)), "claims": claims, "plot": svg, "plot as PNG": png}


def chapter(study: Study, plot: bytes, prefix: str = "") -> tuple[Chapter, dict[str, bytes]]:
    """Return what the template prints of a study, and its figures by the names of their files, which begin with
    ``prefix``; ``plot``: the SVG of accuracy."""
    table = study.table
    whole = {"accuracy": plot, "heatmap": heatmap(table), "gradients": gradients(table), "curves": curves(table)}
    names = {name: f"{prefix}{name}.svg" for name, figure in whole.items() if figure}
    figures = {names[name]: figure for name, figure in whole.items() if figure}
    printed, claims = content(study), []
    for position, claim in enumerate(printed.claims):
        figure = claim_figure(table, study.of_claim(claim.name), study.same_images)
        file = f"{prefix}claim-{position}.svg" if figure else ""
        claims.append(dataclasses.replace(claim, figure=file))
        figures |= {file: figure} if figure else {}
    return dataclasses.replace(printed, claims=claims, figures=names), figures


def _write_excluded(manifest: Manifest, path: Path) -> Path | None:
    """Write which cells were left out on purpose; the file of an earlier report goes if there are none."""
    path.unlink(missing_ok=True)
    if not manifest.exclusions:
        return None
    pd.DataFrame(manifest.exclusions).to_csv(path, index=False)
    return path
