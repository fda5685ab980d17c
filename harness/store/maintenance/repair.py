"""A damaged record, made ready to be computed again: nothing is deleted, what is damaged is renamed."""

from __future__ import annotations

from pathlib import Path

from harness.cell import Cell
from harness.errors import DamagedFile
from harness.files import set_aside, write_json
from harness.store.outcome import Outcome
from harness.store.record import Attempt, Record


def repair(record: Record, cell: Cell) -> list[Path]:
    """Set aside what keeps the cell from being computed, and return the new paths of what was set aside.

    A damaged cell.json is written anew: the name of the folder proves the cell. A published outcome that is damaged is
    set aside, so that its attempt publishes it again; so is the outcome of an attempt whose curve is damaged, so that
    the cell is trained again. Damaged weights stay, and so do the numbers: only ``reopen`` trains them again.
    """
    kept: list[Path | None] = []
    for folder in (record.path, record.path / "attempts"):
        if folder.exists() and not folder.is_dir():
            kept.append(set_aside(folder))
    if not record.path.exists():
        return [path for path in kept if path]
    try:
        record.cell()
    except DamagedFile:
        record.write_cell(cell)
    try:
        record.submission()
    except DamagedFile as damaged:
        kept.append(set_aside(damaged.path))
    if record.state() == "damaged":
        kept += _set_outcomes_aside(record)
    return [path for path in kept if path]


def reopen(record: Record) -> list[Path]:
    """Set aside the outcomes and the weights of a finished cell, and return their new paths.

    The next sweep goes on from the cell's last checkpoint and computes them again.
    """
    kept = [set_aside(record.outcome_file)]
    for attempt in record.attempts():
        ended = attempt.outcome()
        if ended and ended.finished:
            kept += [_void(attempt), set_aside(attempt.encoder)]
    return [path for path in kept if path]


def _void(attempt: Attempt) -> Path | None:
    """Set the outcome of an attempt aside; that it has ended stays known, so that nobody waits for its process."""
    kept = set_aside(attempt.outcome_file)
    write_json(attempt.outcome_file, Outcome("interrupted", attempt=attempt.number, cause="damaged").to_json())
    return kept


def _set_outcomes_aside(record: Record) -> list[Path | None]:
    """Set aside the published outcome, and those of attempts that have finished and are not whole."""
    kept: list[Path | None] = []
    if record.outcome_file.exists():
        kept.append(set_aside(record.outcome_file))
    for attempt in record.attempts():
        outcome = attempt.outcome()
        if outcome is None and attempt.outcome_file.exists():
            kept.append(_void(attempt))
        elif outcome and outcome.finished:
            try:
                record.curve(outcome)
            except DamagedFile:
                kept.append(_void(attempt))
    return kept
