"""What reports of known records say, in full: ``golden/*.txt``.

``python -m tests.study.golden`` writes them anew; read the difference before it is committed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness.study.frame import tidy
from harness.study.report.content import content, study
from harness.study.report.document import Chapter
from tests.support.synthetic import Axes, logged, make_records, robust
from tests.support.tiny import TINY

FOLDER = Path(__file__).with_name("golden")
#: What the design and the appendix say is the cells' business and not the verdicts'.
SECTIONS = ("title", "cells_line", "question", "answer", "caveat", "pairing", "limitations", "collapsed", "run")


def missing(axes: Axes) -> float | None:
    return None if axes["loss"] == "dcl" and axes["seed"] == 2 else robust(axes)


#: Accuracies, overrides, and what else is done to the table or the records.
SCENARIOS: dict[str, tuple[Callable[[Axes], float | None], list[str]]] = {
    "clear effect": (robust, []),
    "no effect": (lambda axes: robust(axes, advantage=0.0), []),
    "too few seeds": (robust, ["axes.seed=[0,1]"]),
    "missing cells": (missing, []),
    "collapsed arm": (lambda axes: 30.0 if axes["loss"] == "dcl" else robust(axes), []),
    "mixed revisions": (robust, []),
}


def printed(name: str, folder: Path) -> Chapter:
    """Return what the report of a scenario prints; ``folder`` is empty."""
    accuracy, overrides = SCENARIOS[name]
    file = folder / "tiny.yaml"
    file.write_text(TINY)
    manifest, results = make_records(file, folder / "results", accuracy, overrides)
    if name == "collapsed arm":
        flat = {"uniformity": lambda axes: -0.01 if axes["loss"] == "dcl" else -2.0, "val_knn": lambda axes: 0.0}
        logged(manifest, results, **flat)
    table = tidy(manifest, results)
    if name == "mixed revisions":
        table.frame.loc[table.frame["seed"] == 1, "revision"] = "1" * 40
        table.frame.loc[table.frame["seed"] == 2, "dirty"] = True
    return content(study(table))


def text(name: str, folder: Path) -> str:
    """Return the report in lines: sections, tables, claims."""
    found = printed(name, folder)
    lines = []
    for section in SECTIONS:
        value = getattr(found, section)
        lines += [f"{section}: {value}"] if isinstance(value, str) else [f"{section}:", *(f"  {one}" for one in value)]
    lines += ["table:", *("  " + " | ".join(map(str, row)) for row in found.table.rows)]
    for verdict in found.verdicts.rows:
        lines += ["verdict:", *(f"  {key}: {value}" for key, value in vars(verdict).items() if key != "study")]
    for claim in found.claims:
        lines += ["claim:", f"  {claim.says} ({claim.source})", f"  {claim.measure}"]
    cells = {cell[0] for cell in found.appendix.rows}
    whole = "\n".join(lines) + "\n"
    for cell in cells:  # ids change with the version of any component
        whole = whole.replace(cell, "CELL")
    return whole


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in SCENARIOS:
        with tempfile.TemporaryDirectory() as folder:
            (FOLDER / f"{name.replace(' ', '_')}.txt").write_text(text(name, Path(folder)), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
