"""One document of all claims of all papers that were put to the test in a results folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.manifest import Manifest
from harness.study.frame import tidy
from harness.study.papers.published import papers
from harness.study.report.abstract import tally
from harness.study.report.content import Study, study, verdict_rows
from harness.study.report.pdf import write_pdf
from harness.study.report.plots import accuracy, style
from harness.study.report.report import chapter
from harness.study.text import count

NAME = "all"


def write_reproduction(manifests: Sequence[Manifest], results: Path, reports: Path) -> tuple[Path, list[Study]]:
    """``all.pdf``: the verdicts by paper, then every experiment that makes claims as its own report has it."""
    studies = [study(tidy(manifest, results)) for manifest in manifests if manifest.claims]
    chapters, figures = [], dict[str, bytes]()
    for position, one in enumerate(studies):
        with style.styled():
            plot = style.svg(accuracy.drawn(one.table))
        printed, drawn = chapter(one, plot, f"{position}-")
        chapters.append(printed)
        figures |= drawn
    path = reports / f"{NAME}.pdf"
    document = {"title": "A reproduction study", "name": NAME, "overview": _overview(studies), "studies": chapters}
    write_pdf(document, figures, path)
    return path, studies


def _overview(studies: Sequence[Study]) -> dict[str, Any]:
    verdicts = [verdict for one in studies for verdict in one.verdicts]
    rows: dict[str, list[dict[str, str]]] = {}
    for one in studies:
        for verdict, row in zip(one.verdicts, verdict_rows(one), strict=True):
            rows.setdefault(verdict.claim.paper, []).append({**row, "study": one.table.manifest.name})
    cells = sum(len(one.table.frame) for one in studies)
    finished = sum(int((one.table.frame["state"] == "finished").sum()) for one in studies)
    return {
        "line": f"{count(len(studies), 'experiment')}, {finished:,} of {count(cells, 'cell')}",
        "answer": tally(verdicts),
        "papers": [_paper(name, rows[name]) for name in (*papers(), "") if name in rows],
    }


def _paper(name: str, rows: list[dict[str, str]]) -> dict[str, Any]:
    paper = papers().get(name)
    title = f"{paper.title} ({paper.cite})" if paper else "Claims of no paper that is listed here"
    caption = "In points of accuracy unless it says otherwise, at the levels of each experiment's own family of claims."
    return {"title": title, "caption": caption, "verdicts": {"header": [], "rows": rows, "note": ""}}
