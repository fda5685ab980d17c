"""``harness fsck``: read every byte of the results, and say what is damaged."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from harness.cli.shared.arguments import Results, Yes, command
from harness.cli.shared.confirm import confirm
from harness.cli.shared.selection import AnyTarget, AsJson, select
from harness.cli.shared.text import count
from harness.errors import DamagedFile, UnreadableFile
from harness.files import set_aside
from harness.store.index import Index
from harness.store.maintenance.fsck import damages_of_record, damages_of_sweeps
from harness.store.maintenance.repair import reopen
from harness.store.record import ENCODER_NAME, EVENTS_NAME, Record

#: What the next sweep does about files that were renamed.
ANEW = (
    "the same harness sweep computes results anew and writes cell.json and manifests anew; what only tells how an "
    "attempt or a sweep went, such as provenance.json, is not written again"
)


class Damage(NamedTuple):
    """A damaged file, and the record that it belongs to; None for a manifest or a ledger."""

    file: DamagedFile
    record: Record | None = None

    @property
    def trains_again(self) -> bool:
        """Whether a cell that has finished is trained again once the file is renamed."""
        of_training = self.file.path.name in (ENCODER_NAME, EVENTS_NAME)
        return of_training and self.record is not None and self.record.state() in ("finished", "damaged")


def fsck(
    target: AnyTarget = None,
    results: Results = Path("results"),
    aside: Annotated[
        bool, typer.Option("--set-aside", help="Rename what is damaged, so that the next sweep computes it anew.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Read every byte of the results; say what is damaged.

    All files of records, manifests and ledgers are compared with their checksums: JSON files, curves, weights and
    checkpoints. Nothing is written without --set-aside, and nothing is deleted with it. --set-aside lists what it will
    rename and which finished cells train again, and asks. The exit code is 0 if all is whole, and 1 otherwise.

    --json prints: cells (how many were read), damaged (cell_id or null, file, what).
    """
    words = target or []
    selection = select(words, results, Index(results / "runs"))
    begun = set(selection.index.cell_ids())
    records = [selection.index.record(cell_id) for cell_id in selection.cell_ids if cell_id in begun]
    found = [Damage(damaged, record) for record in records for damaged in damages_of_record(record)]
    if not words:
        found += map(Damage, damages_of_sweeps(results))
    if not as_json:
        for file, record in found:
            print(f"{selection.names[record.cell_id]}: {file.sentence}" if record else file.sentence)
    set_aside_command = command("fsck", [*words, "--set-aside"], results)
    renamed = [damage for damage in found if not isinstance(damage.file, UnreadableFile)] if aside else []
    if renamed:
        _agree(renamed, selection.names, yes, set_aside_command)
    for damage in renamed:
        _set_aside(damage)
    if as_json:
        listed = [
            {"cell_id": record.cell_id if record else None, "file": str(file.path), "what": file.what}
            for file, record in found
        ]
        print(json.dumps({"cells": len(records), "damaged": listed}, indent=1))
    else:
        _print_end(found, len(records), aside, set_aside_command)
    if found:
        raise typer.Exit(1)


def _print_end(found: list[Damage], cells: int, aside: bool, command_: str) -> None:
    if not found:
        print(f"{count(cells)} read, and every file is whole.")
        return
    print(f"{count(cells)} read, {len(found)} damaged file{'' if len(found) == 1 else 's'}.")
    print(f"What was damaged is renamed; {ANEW}." if aside else f"next: {command_}; then {ANEW}")


def _agree(renamed: Sequence[Damage], names: Mapping[str, str], yes: bool, again: str) -> None:
    """List what will be renamed and which finished cells will be trained again, and ask."""
    trained = {damage.record.cell_id for damage in renamed if damage.record and damage.trains_again}
    lines = [f"will be renamed: {damage.file.path}" for damage in renamed]
    lines += [f"will be trained again: {cell_id} {names[cell_id]}" for cell_id in sorted(trained)]
    for line in lines:
        print(line, file=sys.stderr)
    files = f"{len(renamed)} file{'' if len(renamed) == 1 else 's'}"
    confirm(f"Rename {files}, and let the next sweep train {count(len(trained))} again?", yes, again)


def _set_aside(damage: Damage) -> None:
    """Rename a damaged file; of damaged weights also the outcome, because only training writes them again."""
    if damage.record and damage.file.path.name == ENCODER_NAME:
        reopen(damage.record)
    if damage.file.path.exists():
        set_aside(damage.file.path)
