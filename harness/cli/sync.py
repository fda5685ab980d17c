"""``harness sync``: complete the MLflow mirror from the records."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.cli.shared.arguments import Results, TrackingUri
from harness.cli.shared.scheduler import refresh_job_states
from harness.cli.shared.selection import AnyTarget, AsJson, named_cells
from harness.errors import UserError
from harness.manifest import Manifest
from harness.store.record import Busy
from harness.store.writer_lock import writer_lock
from harness.sweep.tracking.tracking_uri import default_uri, lock_folder

if TYPE_CHECKING:
    from harness.sweep.tracking.mirror import SyncResult


def sync(
    target: AnyTarget = None,
    tracking_uri: TrackingUri = "",
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Bring MLflow up to date with the records.

    Runs and points of curves that are missing in MLflow are added; nothing is added twice.
    """
    refresh_job_states(results, settling=True)
    experiments, damaged = _chosen(target or [], results)
    if not experiments and not damaged and not as_json:
        print(f"No experiment has been swept into {results}/ yet.")
    uri = tracking_uri or default_uri(results)
    added = {manifest.name: _sync(manifest, cells, results, uri) for manifest, cells in experiments}
    if as_json:
        listed = [{"experiment": name, **vars(result)} for name, result in added.items()]
        listed += [{"experiment": name, "error": str(error)} for name, error in damaged.items()]
        print(json.dumps({"tracking_uri": uri, "experiments": listed}, indent=1))
    else:
        _print(added)
        for name, error in damaged.items():
            print(f"not mirrored: {name}: {error}")
    if damaged or any(result.errors for result in added.values()):
        raise typer.Exit(1)


def _chosen(target: list[str], results: Path) -> tuple[list[tuple[Manifest, set[str]]], dict[str, UserError]]:
    """Return the experiments with their chosen cells, and the errors of manifests that cannot be read."""
    manifest, named = named_cells(target, results) if target else (None, [])
    wanted = {record.cell_id for _, record in named}
    if manifest:
        return [(manifest, wanted)], {}
    manifests, damaged = Manifest.all_of(results)
    cells = [(manifest, {cell.cell_id for cell in manifest.cells}) for manifest in manifests]
    if not target:
        return cells, damaged
    return [(manifest, ids & wanted) for manifest, ids in cells if ids & wanted], {}


def _sync(manifest: Manifest, cells: set[str], results: Path, uri: str) -> SyncResult:
    from harness.sweep.tracking.mirror import BUSY_SECONDS, Mirror, StoreFailed, explained

    waits_for = ""
    while True:
        try:
            with writer_lock(lock_folder(results, uri)), explained():
                return Mirror(results, manifest, uri).mirror(cells)
        except Busy as busy:
            if waits_for != str(busy):
                print(f"waiting for another mirror: {busy}", file=sys.stderr)
            waits_for = str(busy)
            time.sleep(BUSY_SECONDS)
        except StoreFailed as error:
            print(f"harness: {uri} does not take the results ({error}); try this command again later", file=sys.stderr)
            raise typer.Exit(1) from None


def _print(added: dict[str, SyncResult]) -> None:
    for name, result in added.items():
        print(f"{name}: {result.runs} runs and {result.points} points added")
        for cell_id, error in result.errors.items():
            print(f"  not mirrored: {cell_id}: {error}")
