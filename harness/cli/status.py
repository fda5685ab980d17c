"""``harness status``: where a sweep stands; reads, never changes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.arguments import Overrides, Results

if TYPE_CHECKING:
    from harness.manifest import Manifest


def status(
    experiment: Annotated[
        str, typer.Argument(help="An experiment file or <experiment>.<scale>; by default all.", show_default=False)
    ] = "",
    overrides: Overrides = None,
    results: Results = Path("results"),
) -> None:
    """Show how many cells are missing, running, finished or failed, what runs, and what failed why."""
    from harness.cli.target import manifest_name
    from harness.manifest import Manifest

    if experiment:
        names = [manifest_name(experiment, overrides or [])]
    else:
        names = sorted(path.stem for path in (results / "manifests").glob("*.json"))
    if not names:
        print(f"No experiment has been swept into {results}/ yet.")
    for name in names:
        _show(Manifest.read(results, name), results)


def _show(manifest: Manifest, results: Path) -> None:
    from harness.cli import summary
    from harness.cli.arguments import short_names
    from harness.collapse import collapse
    from harness.record import Record

    records = [(cell, Record(results / "runs" / cell.cell_id)) for cell in manifest.cells]
    states = {record.cell_id: record.state() for _, record in records}
    print(f"{manifest.name}: {summary.states(Counter(states.values()))}")
    for cell, record in records:
        name = short_names(cell.axes, manifest.varying)
        if states[record.cell_id] == "running":
            said = record.attempts()[-1].progress()
            place = f"step {said['step']} of {said['steps']}, {said['rate']:.0f} samples/s" if said else "starting"
            print(f"  running  {record.cell_id}  {name}: {place}")
        elif states[record.cell_id] == "failed":
            attempt = record.attempts()[-1]
            error = (attempt.outcome() or {}).get("error", "")
            print(f"  failed   {record.cell_id}  {name}: {error}")
            print(f"           log: {attempt.path / 'stderr.log'}")
        events = record.events() if states[record.cell_id] in ("running", "finished") else []
        trained = [event["metrics"] for event in events if event["step"] > 0]
        if trained and (why := collapse(trained[-1], events[0]["metrics"])):
            print(f"  collapsed {record.cell_id}  {name}: {why}")
