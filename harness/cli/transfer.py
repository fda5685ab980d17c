"""``harness export`` and ``harness import``: records in one file, from one machine to another."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.shared import text
from harness.cli.shared.arguments import Results
from harness.cli.shared.selection import AsJson, Target, select
from harness.cli.shared.text import count
from harness.errors import DamagedFile, UserError
from harness.store.index import Index
from harness.store.maintenance import archive
from harness.store.record import Record

#: States of a record that nobody is about to change.
ENDED = ("finished", "failed", "missing")


def export(
    target: Target,
    to: Annotated[Path, typer.Option("--to", help="The archive to write, such as records.tar.gz.", show_default=False)],
    encoders: Annotated[bool, typer.Option("--encoders", help="With the trained encoders.")] = False,
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Write records to one file, to take to another machine.

    The file holds the outcomes, curves and logs of the cells and their experiments' manifests, but no checkpoints.
    Cells that are queued, that run or that never began are left out.

    --json prints: file, bytes, cells (cell ids), manifests (names), left_out (cell id: state).
    """
    index = Index(results / "runs")
    selection = select(target, results, index)
    states = selection.states()
    begun = [cell_id for cell_id in selection.cell_ids if index[cell_id].attempts and index[cell_id].state in ENDED]
    damaged = {cell_id: damage for cell_id in begun if (damage := _damage(index.record(cell_id), encoders))}
    begun = [cell_id for cell_id in begun if cell_id not in damaged]
    if not begun:
        raise UserError("none of these cells has ended", where=" ".join(target), next_command="harness status")
    manifests = [group.manifest for group in selection.groups if group.manifest]
    archive.export([index.record(cell_id) for cell_id in begun], manifests, results, to, encoders)
    left_out = {cell_id: states[cell_id] for cell_id in states.keys() - set(begun)} | dict.fromkeys(damaged, "damaged")
    for cell_id, damage in damaged.items():
        print(f"left out: {cell_id}: {damage.sentence}", file=sys.stderr)
    if as_json:
        names = [manifest.name for manifest in manifests]
        written = {"file": str(to), "bytes": to.stat().st_size, "cells": begun, "manifests": names}
        print(json.dumps({**written, "left_out": left_out}, indent=1))
        return
    if left_out:
        print(f"left out: {text.states(Counter(left_out.values()))}")
    print(f"{to}: {text.count(len(begun))}, {to.stat().st_size / 2**20:.1f} MiB; there: harness import {to.name}")


def _damage(record: Record, encoders: bool) -> DamagedFile | None:
    """Return what is damaged of what is exported of a record."""
    try:
        if encoders:
            record.whole_encoder()
    except DamagedFile as damaged:
        return damaged
    return record.damage()


def import_(
    file: Annotated[Path, typer.Argument(help="What harness export has written.", show_default=False)],
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Add the records of such a file to the results.

    FILE was written by harness export. An imported finished cell counts as finished for sweep and report. Records that
    are in the results already stay as they are, except that a cell which has not finished yet is completed by an
    imported finished one, as a new attempt. A cell that runs is left alone.

    --json prints, for cells and for manifests: added, completed, identical, different, running (the last three were in
    the results already and stay as they are).
    """
    cells, manifests = archive.import_(file, results)
    if as_json:
        print(json.dumps({"cells": vars(cells), "manifests": vars(manifests)}, indent=1))
        return
    completed = f"completed {count(len(cells.completed))} that had not finished here; " if cells.completed else ""
    already = f"here already, with the same content: {count(len(cells.identical))}"
    print(f"added {count(len(cells.added))}; {completed}{already}")
    for cell_id in cells.running:
        print(f"  left alone: {cell_id} runs here; import again when it has ended", file=sys.stderr)
    for name in [*cells.different, *manifests.different]:
        print(f"  kept: {name} is here already, with other content", file=sys.stderr)
    for name in manifests.added:
        print(f"next: harness report {name}")
