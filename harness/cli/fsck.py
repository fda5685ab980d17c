"""``harness fsck``: read every byte of the results, and say what is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from harness.cli.shared.arguments import Results, command
from harness.cli.shared.selection import AnyTarget, AsJson, select
from harness.cli.shared.text import count
from harness.errors import DamagedFile
from harness.files import set_aside
from harness.store.index import Index
from harness.store.maintenance.fsck import damages_of_record, damages_of_sweeps
from harness.store.maintenance.repair import reopen
from harness.store.record import ENCODER_NAME, Record


class Damage(NamedTuple):
    """A damaged file, and the record that it belongs to; None for a manifest or a ledger."""

    file: DamagedFile
    record: Record | None = None


def fsck(
    target: AnyTarget = None,
    results: Results = Path("results"),
    aside: Annotated[
        bool, typer.Option("--set-aside", help="Rename what is damaged: the next sweep computes or writes it anew.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read every byte of the results; say what is damaged.

    All files of records, manifests and ledgers are compared with their checksums: JSON files, curves, weights and
    checkpoints. Nothing is written without --set-aside, and nothing is deleted with it. The exit code is 0 if all is
    whole, and 1 otherwise.

    --json prints: cells (how many were read), damaged (cell_id or null, file, what).
    """
    words = target or []
    selection = select(words, results, Index(results / "runs"))
    begun = set(selection.index.cell_ids())
    records = [selection.index.record(cell_id) for cell_id in selection.cell_ids if cell_id in begun]
    found = [Damage(damaged, record) for record in records for damaged in damages_of_record(record)]
    if not words:
        found += map(Damage, damages_of_sweeps(results))
    if aside:
        for damage in found:
            _set_aside(damage)
    if as_json:
        listed = [
            {"cell_id": record.cell_id if record else None, "file": str(file.path), "what": file.what}
            for file, record in found
        ]
        print(json.dumps({"cells": len(records), "damaged": listed}, indent=1))
    else:
        for file, record in found:
            print(f"{selection.names[record.cell_id]}: {file.sentence}" if record else file.sentence)
        _print_end(found, len(records), aside, command("fsck", [*words, "--set-aside"], results))
    if found:
        raise typer.Exit(1)


def _print_end(found: list[Damage], cells: int, aside: bool, command_: str) -> None:
    if not found:
        print(f"{count(cells)} read, and every file is whole.")
        return
    print(f"{count(cells)} read, {len(found)} damaged file{'' if len(found) == 1 else 's'}.")
    again = "the same harness sweep again computes or writes it anew"
    print(f"What was damaged is renamed; {again}." if aside else f"next: {command_}, then {again}")


def _set_aside(damage: Damage) -> None:
    """Rename a damaged file; of damaged weights also the outcome, because only training writes them again."""
    if damage.record and damage.file.path.name == ENCODER_NAME:
        reopen(damage.record)
    if damage.file.path.exists():
        set_aside(damage.file.path)
