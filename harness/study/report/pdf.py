"""The report as a PDF that reads like a paper, typeset by typst; identical records give identical bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typst

TEMPLATE = Path(__file__).with_name("report.typ")


def write_pdf(document: Mapping[str, Any], figures: Mapping[str, bytes], path: Path) -> None:
    """Typeset a document, ``title`` and ``studies`` at least; ``figures``: SVGs by the names that it gives them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compiled = typst.compile(  # type: ignore[call-overload]  # its stub lacks the form with several files
        {"main.typ": TEMPLATE.read_bytes(), **figures},
        sys_inputs={"data": json.dumps(document)},
        format="pdf",
        ignore_system_fonts=True,
    )
    path.write_bytes(compiled)
