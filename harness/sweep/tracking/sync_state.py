"""What a mirror must still copy, and what it has copied, found without reading events and without importing mlflow."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import DamagedFile
from harness.files import recall, write_json
from harness.manifest import Expected, Manifest
from harness.store.record import Record
from harness.sweep.tracking import run_content
from harness.sweep.tracking.tracking_uri import embedded, lock_folder


@dataclass
class SyncResult:
    """What a pass has added, why some cells could not be mirrored, and what else it has changed in the store."""

    runs: int = 0
    points: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def sync_state(results: Path, manifest: Manifest) -> dict[str, str]:
    """Return by cell id what a mirror compares: state, progress and run name of the record; empty if it never ran."""
    return {cell.cell_id: _fingerprint(results / "runs", manifest, cell) for cell in manifest.cells}


def digest(fingerprints: Mapping[str, str]) -> str:
    """Return one hash of the fingerprints of all cells."""
    return hashlib.sha256(json.dumps(fingerprints).encode()).hexdigest()


def is_complete(results: Path, manifest: Manifest, uri: str) -> bool:
    """Whether no record has changed since the store was complete."""
    store, note = embedded(uri), _note(results, manifest, uri)
    if store is not None and not store.exists():
        return False
    return recall(note) == {"digest": digest(sync_state(results, manifest))}


def remember_complete(results: Path, manifest: Manifest, uri: str, complete_digest: str) -> None:
    """Write down that the store is complete for records with this digest; without the note, a sweep asks the store."""
    path = _note(results, manifest, uri)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"digest": complete_digest})


def _note(results: Path, manifest: Manifest, uri: str) -> Path:
    return lock_folder(results, uri) / "complete" / f"{manifest.name}.json"


def _fingerprint(runs: Path, manifest: Manifest, cell: Expected) -> str:
    """Return the fingerprint of a record; of one that is too damaged to be read, that it is damaged."""
    try:
        return _record_fingerprint(runs, manifest, cell)
    except (DamagedFile, OSError, ValueError, KeyError, TypeError, AttributeError):
        return "damaged"


def _record_fingerprint(runs: Path, manifest: Manifest, cell: Expected) -> str:
    """Return the state of a record, what has been added to it, and the name of its run.

    The name belongs to the fingerprint because it changes when another axis begins to vary.
    """
    record = Record(runs / cell.cell_id)
    name = run_content.run_name(manifest, cell)
    if record.outcome_file.is_file():  # it is read, and found to be damaged, when it is mirrored
        with suppress(FileNotFoundError):
            return f"finished {len(os.listdir(record.path / 'evaluations'))} {name}"
        return f"finished 0 {name}"
    state, attempts = record.state(), record.attempts()
    if not attempts:
        return ""
    events = attempts[-1].events_file
    return f"{state} {attempts[-1].number} {events.stat().st_size if events.exists() else 0} {name}"
