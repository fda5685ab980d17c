"""``harness cancel``: stop queued and running cells, wherever they run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import typer

from harness.cli.shared.arguments import Results, Yes, command
from harness.cli.shared.confirm import confirm
from harness.cli.shared.scheduler import refresh_job_states
from harness.cli.shared.selection import AsJson, Target, select
from harness.cli.shared.text import count
from harness.store.index import Index, Summary
from harness.store.record import Record
from harness.sweep.cluster import cancel_queued

#: How long running cells may take to write their checkpoint before this verb gives up waiting.
WAIT_SECONDS = 60.0
POLL_SECONDS = 0.5


def cancel(
    target: Target,
    results: Results = Path("results"),
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Stop queued and running cells; checkpoints are kept.

    The cells are listed, and you are asked, before any is stopped. A cancelled cell counts as missing: the next sweep
    goes on with it, from its checkpoint.

    --json prints a list of cells: cell_id, name, was (queued, running), became (cancelled, finished, failed, running),
    checkpoint (true, false).
    """
    refresh_job_states(results, settling=True)
    index = Index(results / "runs")
    selected = select(target, results, index)
    was = {cell_id: state for cell_id, state in selected.states().items() if state in ("queued", "running")}
    if not was:
        print("[]" if as_json else "None of these cells is queued or runs.")
        return
    for cell_id, state in was.items():
        print(f"  {state:8} {cell_id}  {selected.names[cell_id]}", file=sys.stderr if as_json else sys.stdout)
    confirm(f"Cancel {count(len(was))}?", yes, command("cancel", target, results))
    records = {cell_id: index.record(cell_id) for cell_id in was}
    for cell_id, state in was.items():
        if state == "queued":
            records[cell_id].withdraw()
    cancel_queued(results, {cell_id for cell_id, state in was.items() if state == "queued"})
    _stop(records)
    listed = [
        {
            "cell_id": cell_id,
            "name": selected.names[cell_id],
            "was": state,
            "became": _became(index[cell_id], records[cell_id]),
            "checkpoint": _has_checkpoint(records[cell_id]),
        }
        for cell_id, state in was.items()
    ]
    if as_json:
        print(json.dumps(listed, indent=1))
    else:
        for cell in listed:
            print(f"  {cell['cell_id']}  {cell['name']}: {_result(cell)}")
    if any(cell["became"] == "running" for cell in listed):
        raise typer.Exit(1)


def _stop(records: Mapping[str, Record]) -> None:
    """Ask running cells to stop, also those that started meanwhile, and wait until none runs."""
    deadline = time.monotonic() + WAIT_SECONDS
    while running := [record for record in records.values() if record.state() == "running"]:
        for record in running:
            attempt = record.attempts()[-1]
            if not attempt.stop_requested():
                attempt.request_stop("cancelled")
        if time.monotonic() > deadline:
            return
        time.sleep(POLL_SECONDS)


def _became(before: Summary, record: Record) -> str:
    """Return the cell's state now; a withdrawn cell is cancelled, even if its record says that it failed earlier."""
    state, begun = record.state(), len(record.attempts()) > before.attempts
    return "cancelled" if state == "missing" or (before.state == "queued" and not begun) else state


def _has_checkpoint(record: Record) -> bool:
    return any(attempt.checkpoint.exists() for attempt in record.attempts())


def _result(cell: Mapping[str, object]) -> str:
    if cell["became"] == "running":
        return "has not stopped yet, and will at its next step"
    if cell["became"] != "cancelled":
        return f"{cell['became']} before it could be cancelled"
    return "cancelled" + ("; its checkpoint is kept" if cell["checkpoint"] else "")
