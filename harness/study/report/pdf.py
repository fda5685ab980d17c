"""The report as a PDF that reads like a paper, typeset by typst; identical records give identical bytes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import typst

from harness.study.report.document import Document
from harness.study.report.plots.fonts import fallback

TEMPLATE = Path(__file__).with_name("report.typ")


def write_pdf(document: Document, figures: Mapping[str, bytes], path: Path) -> str:
    """Typeset a document, and return the characters in it that no font has, whose codes are written instead.

    ``figures``: SVGs by the names of their files in it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(document), ensure_ascii=False)
    other = fallback(text)
    compiled = typst.compile(  # type: ignore[call-overload]  # its stub does not have the form with several files
        {"main.typ": TEMPLATE.read_bytes(), **figures},
        sys_inputs={"data": other.readable(text)},
        font_paths=sorted({file.parent for file in other.files}),
        format="pdf",
        ignore_system_fonts=True,
    )
    path.write_bytes(compiled)
    return other.absent
