"""``harness sync``: complete the MLflow mirror from the records."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer

from harness.cli.shared.arguments import Results, TrackingUri
from harness.cli.shared.scheduler import refresh_job_states
from harness.cli.shared.selection import AnyTarget, AsJson, named_cells
from harness.errors import UserError
from harness.manifest import Manifest
from harness.sweep.tracking.sync_state import SyncResult
from harness.sweep.tracking.tracking_uri import default_uri, public


def sync(
    target: AnyTarget = None,
    tracking_uri: TrackingUri = "",
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Bring MLflow up to date with the records.

    Runs and points of curves that are missing in MLflow are added; nothing is added twice. What was deleted in MLflow
    is restored. A damaged store in the results folder is renamed, and a new one is filled from the records.
    """
    refresh_job_states(results, settling=True)
    experiments, damaged = _chosen(target or [], results)
    if not experiments and not damaged and not as_json:
        print(f"No experiment has been swept into {results}/ yet.")
    uri = tracking_uri or default_uri(results)
    added = _sync_all(experiments, results, uri)
    if as_json:
        listed = [{"experiment": name, **vars(result)} for name, result in added.items()]
        listed += [{"experiment": name, "error": str(error)} for name, error in damaged.items()]
        print(json.dumps({"tracking_uri": public(uri), "experiments": listed}, indent=1))
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


def _sync_all(experiments: list[tuple[Manifest, set[str]]], results: Path, uri: str) -> dict[str, SyncResult]:
    """Mirror the cells of each experiment; where the store had to be replaced, all of them once more.

    Raises:
        typer.Exit: the store does not take them.
    """
    if not experiments:
        return {}
    from harness.sweep.tracking.mirror import Mirror, SetAside, StoreFailed, wait_for_turn

    def mirrored(manifest: Manifest, cells: set[str]) -> SyncResult:
        with wait_for_turn(results, uri):
            return Mirror(results, manifest, uri).mirror(cells, compare_all=True)

    try:
        try:
            return {manifest.name: mirrored(manifest, cells) for manifest, cells in experiments}
        except SetAside as replaced:
            print(f"{replaced}; {replaced.advice}", file=sys.stderr)
            return {manifest.name: mirrored(manifest, cells) for manifest, cells in experiments}
    except StoreFailed as error:
        print(f"harness: {public(uri)} does not take the results ({error}); {error.advice}", file=sys.stderr)
        raise typer.Exit(1) from None


def _print(added: dict[str, SyncResult]) -> None:
    for name, result in added.items():
        print(f"{name}: {result.runs} runs and {result.points} points added")
        for note in result.notes:
            print(f"  {note}")
        for cell_id, error in result.errors.items():
            print(f"  not mirrored: {cell_id}: {error}")
