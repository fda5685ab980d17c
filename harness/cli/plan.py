"""``harness plan``: what a sweep would run and what that would cost."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from harness.cell import short_name
from harness.cli.shared.arguments import Experiment, Overrides, Plugin, RerunStale, Results, command
from harness.cli.shared.disk_space import described
from harness.cli.shared.load_experiment import load
from harness.cli.shared.plan_text import damages, refusals, sources
from harness.cli.shared.scheduler import refresh_job_states
from harness.cli.shared.text import count, hours, size, states
from harness.errors import UserError
from harness.sweep.launch import Declared
from harness.sweep.plan.disk_space import DiskSpace
from harness.sweep.plan.plan import Entry, PlanEstimate
from harness.trees import Node

#: Arms that are listed one by one.
MOST_ROWS = 20
#: Columns of the words at the left.
LABEL = 7


def plan(
    experiment: Experiment,
    overrides: Overrides = None,
    results: Results = Path("results"),
    plugin: Plugin = None,
    rerun_stale: RerunStale = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON, for scripts.")] = False,
) -> None:
    """Show which cells are missing and what they would cost.

    Nothing is trained. The cost of a cell is that of finished cells which differ only in seed; where there is none, a
    few training steps are measured on this machine, and remembered until torch or the code changes.
    """
    refresh_job_states(results, settling=False)
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        declared = load(experiment, overrides or [], results, plugins=plugin or [])
    wanted = declared.plan.to_run(rerun_stale)
    estimate, unknown = None, ""
    try:
        estimate = declared.estimate(wanted)
    except UserError as error:
        unknown = str(error)
    room = declared.disk_space(estimate.entries if estimate else wanted, estimate, results)
    options = ["--rerun-stale"] if rerun_stale else []
    again = command("sweep", [experiment, *(overrides or []), *options], results, plugins=plugin or [])
    if as_json:
        print(json.dumps(_as_json(declared, wanted, estimate, unknown, room, again), indent=2))
    else:
        notes = [*_notes(declared, results), *([] if rerun_stale else _stale(declared))]
        _show(declared, notes, wanted, estimate, unknown, room, again)


def _show(
    declared: Declared,
    notes: Sequence[str],
    wanted: Sequence[Entry],
    estimate: PlanEstimate | None,
    unknown: str,
    room: Sequence[DiskSpace],
    again: str,
) -> None:
    console = Console(highlight=False, markup=False)
    console.print(f"{declared.manifest.name}: {states(declared.plan.counts())}", soft_wrap=True)
    axes = ((short_name(path), ", ".join(map(str, values))) for path, values in declared.manifest.axes.items())
    console.print(_rows([*axes, *(("–", note) for note in notes)]))
    if not wanted:
        console.print("Nothing is missing.")
        return
    console.print()
    console.print(_arms(declared, estimate))
    console.print()
    console.print(_rows(_facts(declared, wanted, estimate, unknown, room)))
    console.print(f"{'Next':{LABEL + 2}}{again}", soft_wrap=True)  # in one piece, to be copied


def _rows(rows: Iterable[tuple[str, str]]) -> Table:
    """Return a table of labels and texts; a long text is wrapped in its column."""
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=LABEL)
    table.add_column(overflow="fold")  # a command is no use without its end
    for row in rows:
        table.add_row(*row)
    return table


def _notes(declared: Declared, results: Path) -> Iterator[str]:
    """Explain why there are fewer cells than points of the grids, and why some unfinished cells do not run."""
    yield from declared.expansion.notes()
    yield from damages(declared.plan, declared.manifest.varying)
    causes = Counter(entry.cause.replace("_", " ") for entry in declared.plan.not_retried())
    retry = command("retry", [declared.manifest.name], results)
    for cause, cells in causes.items():
        yield f"{count(cells)} failed ({cause}) and would again; to try all the same: {retry}"


def _stale(declared: Declared) -> Iterator[str]:
    if stale := declared.plan.counts()["stale"]:
        yield f"{count(stale)} stale: finished with an earlier version of a component; --rerun-stale trains anew"


def _arms(declared: Declared, estimate: PlanEstimate | None) -> Table:
    """Return a row for each arm: how many cells have finished, and the time and memory that a missing cell takes."""
    arms: dict[str, list[Entry]] = {}
    for entry in declared.plan.entries:
        arms.setdefault(entry.arm_label(declared.manifest.varying), []).append(entry)
    table = Table("arm", box=None, pad_edge=False, header_style="")
    for name in ("finished", "a cell", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, entries in list(arms.items())[:MOST_ROWS]:
        finished = sum(entry.state == "finished" for entry in entries)
        needs = [estimate.needs.get(entry.cell.cell_id) for entry in entries] if estimate else []
        need = next((need for need in needs if need), None)
        cost = (hours(need.seconds / 3600), size(need.memory) if need.memory else "unknown") if need else ("", "")
        table.add_row(name, f"{finished} of {len(entries)}", *cost)
    if len(arms) > MOST_ROWS:
        table.add_row(f"and {len(arms) - MOST_ROWS:,} more arms")
    return table


def _facts(
    declared: Declared, wanted: Sequence[Entry], estimate: PlanEstimate | None, unknown: str, room: Sequence[DiskSpace]
) -> Iterator[tuple[str, str]]:
    slots = declared.slots
    threads = f"{slots.threads} thread{'' if slots.threads == 1 else 's'}"
    at_a_time = f"{slots.count} at a time, {threads} each, {slots.device}"
    if estimate is None:
        yield "To run", f"{count(len(wanted))} ({at_a_time})"
        yield "Cost", f"unknown: {unknown}"
        yield from ((space.what, described(space)) for space in room)
        return
    yield "To run", f"{count(len(estimate.entries))}: about {hours(estimate.wall_hours)} ({at_a_time})"
    if estimate.entries:
        yield "Cost", f"{estimate.device_hours:.2g} device-hours: {sources(estimate)}"
        yield from ((space.what, described(space)) for space in room)
    for refusal in refusals(declared, estimate):
        yield "No room", refusal


def _as_json(
    declared: Declared,
    wanted: Sequence[Entry],
    estimate: PlanEstimate | None,
    unknown: str,
    room: Sequence[DiskSpace],
    again: str,
) -> dict[str, Node]:
    def listed(entries: Sequence[Entry]) -> list[dict[str, Node]]:
        needs = estimate.needs if estimate else {}
        return [
            {"cell_id": entry.cell.cell_id, "axes": entry.axes, "state": entry.state, "cause": entry.cause}
            | (asdict(needs[entry.cell.cell_id]) if entry.cell.cell_id in needs else {})
            for entry in entries
        ]

    return {
        "experiment": declared.manifest.experiment,
        "scale": declared.manifest.scale,
        "states": declared.plan.counts(),
        "axes": declared.manifest.axes,
        "exclusions": [asdict(exclusion) for exclusion in declared.expansion.exclusions],
        "dataset_notes": declared.files.notes,
        "coinciding": len(declared.expansion.shared_between_grids),
        "to_run": listed(estimate.entries if estimate else wanted),
        "not_retried": listed(declared.plan.not_retried()),
        "refused": listed(estimate.refused if estimate else []),
        "device_hours": estimate.device_hours if estimate else None,
        "wall_hours": estimate.wall_hours if estimate else None,
        "by_records": estimate.by_records if estimate else None,
        "by_steps": estimate.by_steps if estimate else None,
        "unknown": unknown,
        "room": [asdict(space) | {"folder": str(space.folder) if space.folder else None} for space in room],
        "memory_limit": estimate.memory_limit if estimate else None,
        "slots": asdict(declared.slots),
        "next": again,
    }
