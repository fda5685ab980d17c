"""A damaged record, made ready to be computed again: nothing is deleted, what is damaged is renamed."""

from __future__ import annotations

from pathlib import Path

from harness.cell import Cell
from harness.errors import DamagedFile, UnreadableFile
from harness.files import read_as, read_if_whole, set_aside, write_json
from harness.store.outcome import Outcome
from harness.store.record import Attempt, Record
from harness.store.signs_of_life import look_again


def repair(record: Record, cell: Cell) -> list[Path]:
    """Set aside what keeps the cell from being computed, and return the new paths of what was set aside.

    A damaged cell.json is written anew: the name of the folder proves the cell. A published outcome that is damaged is
    set aside, so that its attempt publishes it again; so is the outcome of an attempt whose curve is damaged, so that
    the cell is trained again. Damaged weights stay, and so do the numbers: only ``reopen`` trains them again.

    Raises:
        UnreadableFile: a file cannot be read now; nothing is set aside for it.
    """
    kept: list[Path | None] = []
    for folder in (record.path, record.path / "attempts"):
        if folder.exists() and not folder.is_dir():
            kept.append(set_aside(folder))
    if not record.path.exists():
        return [path for path in kept if path]
    try:
        record.cell()
    except UnreadableFile:
        raise
    except DamagedFile:
        record.write_cell(cell)
    try:
        record.submission()
    except UnreadableFile:
        raise
    except DamagedFile as damaged:
        kept.append(set_aside(damaged.path))
    if _still_damaged(record):
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
    """Set the outcome of an attempt aside; that it has ended stays known, so that nobody waits for its process.

    Where a file lies in the place of the attempt, the file is set aside.
    """
    if not attempt.path.is_dir():
        return set_aside(attempt.path)
    kept = set_aside(attempt.outcome_file)
    write_json(attempt.outcome_file, Outcome("interrupted", attempt=attempt.number, cause="damaged").to_json())
    return kept


def _still_damaged(record: Record) -> bool:
    """Whether the results are damaged, also once a shared file system was made to look again.

    Raises:
        UnreadableFile: one of their files cannot be read now.
    """
    if record.damage():
        for folder in (record.path, *(attempt.path for attempt in record.attempts() if attempt.path.is_dir())):
            look_again(folder)
    damage = record.damage()
    if isinstance(damage, UnreadableFile):
        raise damage
    return damage is not None


def _set_outcomes_aside(record: Record) -> list[Path | None]:
    """Set aside the published outcome, and those of attempts that have finished and are not whole.

    The attempt that was published has ended, also where nothing else says so any more.

    Raises:
        UnreadableFile: a file of an attempt cannot be read now; nothing was set aside.
    """
    outcome = read_if_whole(record.outcome_file, Outcome.from_json)
    ended = outcome.attempt if outcome else 0
    attempts = [(attempt, attempt.number == ended and attempt.outcome() is None) for attempt in record.attempts()]
    void = [attempt for attempt, is_lost in attempts if is_lost or not _is_whole(attempt)]
    published = [set_aside(record.outcome_file)] if record.outcome_file.exists() else []
    return published + [_void(attempt) for attempt in void]


def _is_whole(attempt: Attempt) -> bool:
    """Whether the outcome of an attempt can be read, and its curve, if it has finished.

    Raises:
        UnreadableFile: one of them cannot be read now.
    """
    try:
        outcome = read_as(attempt.outcome_file, Outcome.from_json)
        if outcome and outcome.finished:
            attempt.record.curve(outcome)
    except UnreadableFile:
        raise
    except DamagedFile:
        return False
    return True
