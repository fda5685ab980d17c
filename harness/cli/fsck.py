"""``harness fsck``: read every byte of the results, and say what is damaged."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
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
from harness.store.maintenance.fsck import damages_of_folders, damages_of_record, damages_of_sweeps
from harness.store.maintenance.repair import reopen
from harness.store.record import ENCODER_NAME, EVENTS_NAME, Record
from harness.sweep.tracking.store_check import damage_of_store

#: What the next sweep does about files that were renamed.
ANEW = (
    "the same harness sweep computes results anew and writes cell.json and manifests anew; what only tells how an "
    "attempt or a sweep went, such as provenance.json, is not written again"
)


class Damage(NamedTuple):
    """A damaged file, and the record that it belongs to; None for a manifest, a ledger or MLflow's store.

    ``name``: the cell's, for people; ``stays``: it is another verb's to rename.
    """

    file: DamagedFile
    record: Record | None = None
    name: str = ""
    stays: bool = False

    @property
    def is_renamed(self) -> bool:
        """Whether --set-aside renames it: a file that cannot be read now may be whole."""
        return not (self.stays or isinstance(self.file, UnreadableFile))

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

    All files of records, manifests and ledgers are compared with their checksums: JSON files (job arrays and the last
    answer of a cluster's queue among them), curves, weights and checkpoints; of MLflow's copy in the results, SQLite
    checks the structure. Logs, heartbeats, locks and the cache have no checksums that matter: no number depends on
    them. Nothing is written without --set-aside, and nothing is deleted with it. --set-aside lists what it will rename
    and which finished cells train again, and asks; MLflow's copy is harness sync's to replace. The exit code is 0 if
    all is whole, and 1 otherwise.

    --json prints: cells (how many were read), damaged (cell_id or null, file, what).
    """
    words = target or []
    cells, found = _read_all(words, results)
    if not as_json:
        for damage in found:
            print(f"{damage.name}: {damage.file.sentence}" if damage.name else damage.file.sentence)
    set_aside_command = command("fsck", [*words, "--set-aside"], results)
    renamed = [damage for damage in found if aside and damage.is_renamed]
    if renamed:
        _agree(renamed, yes, set_aside_command)
    for damage in renamed:
        _set_aside(damage)
    if as_json:
        listed = [
            {"cell_id": record.cell_id if record else None, "file": str(file.path), "what": file.what}
            for file, record, *_ in found
        ]
        print(json.dumps({"cells": cells, "damaged": listed}, indent=1))
    else:
        _print_end(found, cells, aside, set_aside_command)
    if found:
        raise typer.Exit(1)


def _read_all(words: Sequence[str], results: Path) -> tuple[int, list[Damage]]:
    """Return how many cells were read, and what is damaged in them and, where no cells are named, elsewhere."""
    if blocked := list(damages_of_folders(results)):  # what lies below can be read once they are moved away
        return 0, [Damage(folder) for folder in blocked]
    selection = select(words, results, Index(results / "runs"))
    begun = set(selection.index.cell_ids())
    records = [selection.index.record(cell_id) for cell_id in selection.cell_ids if cell_id in begun]
    names = selection.names
    found = [Damage(file, record, names[record.cell_id]) for record in records for file in damages_of_record(record)]
    if not words:
        found += map(Damage, damages_of_sweeps(results))
        found += [Damage(store, stays=True) for store in damage_of_store(results)]
    return len(records), found


def _print_end(found: list[Damage], cells: int, aside: bool, command_: str) -> None:
    if not found:
        print(f"{count(cells)} read, and every file is whole.")
        return
    print(f"{count(cells)} read, {len(found)} damaged file{'' if len(found) == 1 else 's'}.")
    print(f"What was damaged is renamed; {ANEW}." if aside else f"next: {command_}; then {ANEW}")


def _agree(renamed: Sequence[Damage], yes: bool, again: str) -> None:
    """List what will be renamed and which finished cells will be trained again, and ask."""
    trained = {damage.record.cell_id: damage.name for damage in renamed if damage.record and damage.trains_again}
    lines = [f"will be renamed: {damage.file.path}" for damage in renamed]
    lines += [f"will be trained again: {cell_id} {name}" for cell_id, name in sorted(trained.items())]
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
