"""``harness gc``: remove checkpoints that nobody needs any more."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.cli.shared.arguments import Results, Yes, command
from harness.cli.shared.confirm import confirm
from harness.cli.shared.selection import AnyTarget, AsJson, named_cells
from harness.cli.shared.text import size
from harness.errors import DamagedFile
from harness.store.checksum import check_parts
from harness.store.record import Attempt, Record


def gc(
    target: AnyTarget = None,
    results: Results = Path("results"),
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove checkpoints that are no longer needed.

    These are the checkpoints of finished cells and those of attempts that a later attempt has superseded. They are
    listed, and you are asked, before any is removed. The checkpoint from which an unfinished cell goes on is kept, and
    so are encoders, curves and logs.

    --json prints: bytes, files (cell_id, name, path, bytes), after they were removed.
    """
    words = target or []
    _, cells = named_cells(words, results)
    files = [(name, record, path, path.stat().st_size) for name, record in cells for path in unneeded(record)]
    total = sum(length for *_, length in files)
    for name, record, path, length in files:
        line = f"  {size(length):>9}  {record.cell_id}  {name}: {path.relative_to(record.path)}"
        print(line, file=sys.stderr if as_json else sys.stdout)
    if files:
        confirm(f"Remove {len(files)} files, {size(total)}?", yes, command("gc", words, results))
    for *_, path, _ in files:
        path.unlink(missing_ok=True)
    if as_json:
        listed = [
            {"cell_id": record.cell_id, "name": name, "path": str(path), "bytes": length}
            for name, record, path, length in files
        ]
        print(json.dumps({"bytes": total, "files": listed}, indent=1))
    else:
        print(f"removed {len(files)} files, {size(total)}" if files else "There is nothing to remove.")


def unneeded(record: Record) -> list[Path]:
    """Return the checkpoints and temporary files that nothing needs.

    These are the files of finished cells, and of attempts before the one from which an unfinished cell goes on.
    """
    attempts: Sequence[Attempt] = record.attempts()
    if record.outcome() is None:
        attempts = _superseded(attempts)
    return [path for attempt in attempts for path in [*_checkpoints(attempt), *_torn(attempt)]]


def _superseded(attempts: Sequence[Attempt]) -> Sequence[Attempt]:
    """Return the attempts before the last one from which training can go on: it has a checkpoint that is whole."""
    for position in range(len(attempts) - 1, 0, -1):
        if any(map(_is_whole, _checkpoints(attempts[position]))):
            return attempts[:position]
    return []


def _is_whole(checkpoint: Path) -> bool:
    """Whether every part of a checkpoint has its checksum."""
    try:
        check_parts(checkpoint)
    except (DamagedFile, FileNotFoundError):
        return False
    return True


def _checkpoints(attempt: Attempt) -> list[Path]:
    return [path for path in attempt.checkpoints if path.is_file()]


def _torn(attempt: Attempt) -> list[Path]:
    """Temporary files whose writer was killed; every writer begins their names with a dot."""
    return sorted(path for path in attempt.path.glob(".*") if path.is_file())
