"""One document of all claims of all papers that were put to the test in a results folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from harness.manifest import Manifest
from harness.study.frame import tidy
from harness.study.papers.published import papers
from harness.study.report.abstract import tally
from harness.study.report.content import Study, study, verdict_rows
from harness.study.report.document import Document, Overview, PaperSection, VerdictRow, VerdictTable
from harness.study.report.pdf import write_pdf
from harness.study.report.plots import accuracy, style
from harness.study.report.report import chapter
from harness.study.text import count

NAME = "all"


def write_reproduction(manifests: Sequence[Manifest], results: Path, reports: Path) -> tuple[Path, list[Study], str]:
    """Write ``all.pdf``: the verdicts by paper, then the report of every experiment that makes claims.

    Also return the characters that no font has.
    """
    studies = [study(tidy(manifest, results)) for manifest in manifests if manifest.claims]
    chapters, figures = [], dict[str, bytes]()
    for position, experiment in enumerate(studies):
        with style.styled():
            plot = style.svg(accuracy.drawn(experiment.table))
        printed, drawn = chapter(experiment, plot, f"{position}-")
        chapters.append(printed)
        figures |= drawn
    path = reports / f"{NAME}.pdf"
    absent = write_pdf(Document("A reproduction study", NAME, chapters, _overview(studies)), figures, path)
    return path, studies, absent


def _overview(studies: Sequence[Study]) -> Overview:
    rows: dict[str, list[VerdictRow]] = {}
    for experiment in studies:
        for verdict, row in zip(experiment.verdicts, verdict_rows(experiment), strict=True):
            named = dataclasses.replace(row, study=experiment.table.manifest.name)
            rows.setdefault(verdict.claim.paper, []).append(named)
    states = [state for experiment in studies for state in experiment.table.frame["state"]]
    finished = f"{states.count('finished'):,} of {count(len(states), 'cell')}"
    return Overview(
        line=f"{count(len(studies), 'experiment')}, {finished}",
        answer=tally([verdict for experiment in studies for verdict in experiment.verdicts]),
        papers=[_paper(name, rows[name]) for name in (*papers(), "") if name in rows],
    )


def _paper(name: str, rows: list[VerdictRow]) -> PaperSection:
    paper = papers().get(name)
    title = f"{paper.title} ({paper.cite})" if paper else "Claims without a listed paper"
    caption = "In points of accuracy unless another unit is named; the levels are those of each experiment's claims."
    return PaperSection(title, caption, VerdictTable(rows))
