"""A sweep that has been prepared and has not begun."""

from __future__ import annotations

from pathlib import Path

from harness.cli.shared.load_experiment import load
from harness.manifest import Manifest
from harness.store.record import Record


def prepared(tiny: Path, overrides: list[str]) -> Manifest:
    """The manifest of a sweep whose records are there and have not begun."""
    declared = load(str(tiny), overrides, tiny.parent / "results")
    for entry in declared.plan.entries:
        Record.prepare(tiny.parent / "results" / "runs", entry.cell)
    declared.manifest.write(tiny.parent / "results")
    return declared.manifest
