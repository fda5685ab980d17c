"""Every byte of a results folder that has a checksum, read and compared: which files are damaged, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from harness.errors import DamagedFile
from harness.files import read_as
from harness.manifest import Manifest
from harness.store.checksum import check_parts
from harness.store.outcome import Outcome
from harness.store.provenance import Provenance
from harness.store.record import Attempt, Record, added_evaluation
from harness.store.sweeps.job_arrays import JobArrays
from harness.store.sweeps.ledger import Ledger

#: The folders of the results.
FOLDERS = ("runs", "manifests", "sweeps")


def damages_of_folders(results: Path) -> Iterator[DamagedFile]:
    """Yield the folders of the results in whose place something else lies: what they held cannot be read then."""
    for folder in (results / name for name in FOLDERS):
        if folder.exists() and not folder.is_dir():
            yield DamagedFile(folder, "it is no folder")


def damages_of_record(record: Record) -> Iterator[DamagedFile]:
    """Yield the damaged files of a record, each once."""
    try:
        attempts = record.attempts()
    except DamagedFile as damaged:
        yield damaged
        return
    evaluations = sorted((record.path / "evaluations").glob("*.json"))
    yield from _damages(
        record.cell,
        record.submission,
        record.events,
        record.whole_encoder,
        *(check for attempt in attempts for check in _checks_of_attempt(attempt)),
        *(partial(read_as, path, added_evaluation) for path in evaluations),
    )


def damages_of_sweeps(results: Path) -> Iterator[DamagedFile]:
    """Yield the damaged files of all manifests and ledgers."""
    manifests = sorted((results / "manifests").glob("*.json"))
    yield from _damages(*(partial(Manifest.load, path) for path in manifests))
    for folder in sorted((results / "sweeps").glob("*")):
        ledger = Ledger(folder)
        yield from ledger.damages()
        yield from JobArrays(folder).damages()
        if ledger.manifest.exists():
            yield from _damages(partial(Manifest.load, ledger.manifest))


def _checks_of_attempt(attempt: Attempt) -> Iterator[Callable[[], object]]:
    yield partial(read_as, attempt.provenance_file, Provenance.from_json)
    yield partial(read_as, attempt.outcome_file, Outcome.from_json)
    yield lambda: list(attempt.events())
    yield from (partial(check_parts, path) for path in attempt.checkpoints if path.exists())


def _damages(*checks: Callable[[], object]) -> Iterator[DamagedFile]:
    """Carry out checks, and yield what they find, each file once."""
    met: set[Path] = set()
    for check in checks:
        try:
            check()
        except DamagedFile as damaged:
            if damaged.path not in met:
                yield damaged
            met.add(damaged.path)
