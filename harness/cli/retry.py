"""``harness retry``: run failed cells again, those too that a sweep does not try again by itself."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import typer

from harness.cli.shared.arguments import Results, TrackingUri, Yes, command
from harness.cli.shared.confirm import confirm
from harness.cli.shared.run_locally import Foreground
from harness.cli.shared.scheduler import refresh_job_states
from harness.cli.shared.selection import AsJson, Target, named_cells
from harness.cli.shared.text import count
from harness.environment.memory import memory_bytes
from harness.errors import DamagedFile, UnreadableFile
from harness.manifest import Manifest
from harness.store.index import Index
from harness.store.record import Record
from harness.store.submission import Submission
from harness.store.sweeps.ledger import Ledger, Policy
from harness.sweep.cluster import cluster_of, resubmit
from harness.sweep.run.slots import Slots, divide
from harness.sweep.run.supervisor import Task


def retry(
    target: Target,
    results: Results = Path("results"),
    yes: Yes = False,
    as_json: AsJson = False,
    tracking_uri: TrackingUri = "",
) -> None:
    """Train failed cells again, each from its last checkpoint.

    This includes cells that harness sweep does not try again by itself: those that diverged or ran out of memory. A
    cell runs where it ran before, on this machine or as a job of the cluster, with the threads, data and evaluation
    that it was submitted with.

    --json prints a list of cells: cell_id, name, state, error; messages about progress go to standard error.
    """
    refresh_job_states(results, settling=True)
    _, cells = named_cells(target, results)
    index = Index(results / "runs")  # which knows what is in a queue already
    failed = [
        (name, record) for name, record in cells if index[record.cell_id].state == "failed" and _is_known(name, record)
    ]
    if not failed:
        print("[]" if as_json else "None of these cells has failed.")
        return
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        for name, record in failed:
            print(f"  {record.cell_id}  {name}: {_error(record)}")
        confirm(f"Run {count(len(failed))} again?", yes, command("retry", target, results))
        again = command("retry", [*target, "--yes"], results, tracking_uri)
        complete = [_run(name, cells, results, tracking_uri, again) for (name, _), cells in _by_sweep(failed).items()]
    if as_json:
        print(json.dumps([_listed(name, record) for name, record in failed], indent=1))
    if not all(complete):
        raise typer.Exit(1)


def _is_known(name: str, record: Record) -> bool:
    """Whether it is known how the cell is run, and where; where that file is damaged, a sweep writes it anew."""
    try:
        record.cell()
        record.submission()
        cluster_of(record)
    except DamagedFile as damaged:
        again = damaged.next_command or "harness sweep writes it anew"
        anew = "" if isinstance(damaged, UnreadableFile) else f"; {again}"
        print(f"left out: {name} ({record.cell_id}): {damaged.sentence}{anew}", file=sys.stderr)
        return False
    return True


def _by_sweep(failed: list[tuple[str, Record]]) -> dict[tuple[str, str], list[tuple[str, Record]]]:
    """Group cells by the manifest for which, and the cluster to which, they were submitted."""
    groups: dict[tuple[str, str], list[tuple[str, Record]]] = {}
    for name, record in failed:
        submission, cluster = _submission(record), cluster_of(record)
        key = f"{submission.experiment}.{submission.scale}", str(cluster)
        groups.setdefault(key, []).append((name, record))
    return groups


def _run(name: str, failed: list[tuple[str, Record]], results: Path, tracking_uri: str, again: str) -> bool:
    """Run cells of one manifest where they ran before; False if some have not finished on this machine.

    What becomes of a cluster's jobs is seen later.
    """
    manifest = Manifest.read(results, name)
    if cluster_of(failed[0][1]):
        submitted = resubmit(failed, manifest, results, again)
        print(f"{count(submitted.cells)} submitted as {submitted.sweep}")
        return True
    tasks = [Task(record, record.cell(), shown, _submission(record)) for shown, record in failed]
    first = tasks[0].submission
    division = divide(len(tasks), None, first.run.device, max(task.submission.run.world_size for task in tasks))
    # With as many threads as before: sums in another order have other last digits.
    memory = memory_bytes(division.device) if division.device == "cpu" else 0
    slots = Slots(division.count, first.run.threads, division.device, memory)
    sweep = failed[0][1].sweep_folder(first)
    policy = Ledger(sweep).policy() if sweep else Policy()
    return Foreground(manifest, results, tracking_uri, again, slots, policy).run(tasks, 0, len(tasks))


def _listed(name: str, record: Record) -> dict[str, Any]:
    return {"cell_id": record.cell_id, "name": name, "state": record.state(), "error": _error(record) or None}


def _error(record: Record) -> str:
    """Return the error that the last attempt ended with; empty if it ended without one."""
    outcome = record.attempts()[-1].outcome()
    return outcome.error if outcome else ""


def _submission(record: Record) -> Submission:
    """Return how a cell was submitted; a cell that was imported has no submission, and gets the default one."""
    return record.submission() or Submission()
