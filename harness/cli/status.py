"""``harness status``: where sweeps stand; reads, never changes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.console import Group as Lines
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from harness.cli.shared import text
from harness.cli.shared.arguments import Results, command
from harness.cli.shared.scheduler import refresh_job_states
from harness.cli.shared.selection import OTHERS, AnyTarget, AsJson, Group, is_whole, names_in, select
from harness.cli.shared.text import hours
from harness.errors import UserError
from harness.store.index import Index, Summary
from harness.store.ledger import Ledger

REFRESH_SECONDS = 2.0
#: Of whole experiments, so many cells of a kind are listed.
MOST_CELLS = 10
#: What is listed of whole experiments, and of chosen cells.
LISTED = ("running", "held", "failed", "stale", "collapsed")
ALL = ("running", "queued", "failed", "stale", "missing", "finished")
COLOURS = {"running": "cyan", "failed": "red", "stale": "yellow", "collapsed": "magenta", "finished": "green"}

#: In a scheduler's reasons for which a job waits for ever, unless somebody does something.
STUCK = ("held", "limit", "invalid", "badconstraints", "neversatisfied", "dependencynever")

Json = dict[str, Any]


class Line(NamedTuple):
    text: str
    style: str = ""
    indent: int = 0


def status(
    target: AnyTarget = None,
    results: Results = Path("results"),
    watch: Annotated[bool, typer.Option("--watch", help="Go on until nothing is queued or runs, or Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of every cell and why cells failed.

    For whole experiments it counts the cells in each state (missing, queued, running, finished, failed, stale) and
    lists those that run, have failed or have collapsed. Cells chosen by id or filter are all listed.

    --json prints a list of experiments: name, counts, sweeps (name, host, alive, stopped), excluded (where, reason,
    cells), cells (cell_id, name, state, attempts, ends, host, job, waits, held, progress, cause, error, log, collapsed,
    metrics, seconds). An experiment whose manifest cannot be read has name and error only. ends counts attempts by how
    they ended; job is the scheduler's id of the job, waits its reason for waiting; held is true if the job does not
    start unless somebody acts.
    """
    if watch and as_json:
        raise UserError("--watch is for people, --json for programs", where="command line", allowed="one of them")
    refresh_job_states(results, settling=False)
    index, words = Index(results / "runs"), target or []
    if watch:
        _watch(words, results, index)
    elif as_json:
        print(json.dumps(experiments(words, results, index), indent=1))
    else:
        _print(experiments(words, results, index), words, results)
    index.remember()


def experiments(words: Sequence[str], results: Path, index: Index) -> list[Json]:
    """Return what ``--json`` prints."""
    found = select(words, results, index)
    states = found.states()
    listed = []
    for group in found.groups:
        names = names_in(group) if group.manifest else found.names
        cells = [_cell(index, cell.cell_id, names[cell.cell_id], states[cell.cell_id]) for cell in group.cells]
        listed.append(
            {
                "name": group.name,
                "counts": dict(Counter(cell["state"] for cell in cells)),
                "sweeps": _sweeps(group, results),
                "excluded": [vars(exclusion) for exclusion in group.manifest.exclusions] if group.manifest else [],
                "cells": cells,
            }
        )
    return [*listed, *({"name": name, "error": str(error)} for name, error in found.damaged.items())]


def _cell(index: Index, cell_id: str, name: str, state: str) -> Json:
    found = index[cell_id]
    return {
        "cell_id": cell_id,
        "name": name,
        "state": state,
        "attempts": found.attempts,
        "ends": found.ends,
        "host": found.ran.get("host"),
        "job": index.task_id(cell_id) or None,
        "waits": (waits := _waits(index, cell_id) if state == "queued" else None),
        "held": any(word in (waits or "").lower() for word in STUCK),
        "progress": _progress(found) if found.progress else None,
        "cause": found.cause if state == "failed" else None,
        "error": found.error if state == "failed" else None,
        "log": str(index.last_attempt(cell_id).log("stderr")) if found.attempts else None,
        "collapsed": (found.collapse if state in ("running", "finished") else "") or None,
        "metrics": found.outcome.metrics if found.outcome else None,
        "seconds": found.outcome.seconds if found.outcome else None,
    }


def _waits(index: Index, cell_id: str) -> str | None:
    """Return the scheduler's reason for which a queued cell waits."""
    said = index.job_status(cell_id)
    return (said.why or said.state.lower()) if said else None


def _progress(running: Summary) -> Json:
    """Return how far a running cell is; ``val_knn`` and ``loss`` are those of its last complete epoch."""
    said, last = running.progress, (running.last or {"metrics": {}})["metrics"]
    left = (said["steps"] - said["step"]) * running.value("batch_size") / said["rate"]
    return {
        "epoch": said["epoch"] + 1,
        "epochs": running.value("epochs"),
        "step": said["step"],
        "steps": said["steps"],
        "loss": said.get("loss", last.get("loss")),
        "val_knn": running.val_knn,
        "samples_per_second": said["rate"],
        "seconds_left": left,
    }


def _sweeps(group: Group, results: Path) -> list[Json]:
    """Return the sweeps whose process is alive, and the last one."""
    ledgers = Ledger.all_of(results, group.name)
    found = []
    for ledger in ledgers:
        alive = ledger.alive(time.time())
        if alive or ledger is ledgers[-1]:
            facts = {"name": ledger.path.name, "host": ledger.facts().get("host"), "alive": alive}
            found.append({**facts, "stopped": ledger.stop_reason() or None})
    return found


def _print(found: list[Json], words: Sequence[str], results: Path) -> None:
    console = Console()
    for line in _lines(found, words, results):
        if console.is_terminal:
            console.print(_padded(line))
        else:
            print(f"{'':{line.indent}}{line.text}")


def _watch(words: Sequence[str], results: Path, index: Index) -> None:
    with suppress(KeyboardInterrupt), Live(auto_refresh=False) as live:
        while True:
            refresh_job_states(results, settling=False)
            index.refresh()
            found = experiments(words, results, index)
            live.update(Lines(*map(_padded, _lines(found, words, results))), refresh=True)
            if not any(_goes_on(experiment) for experiment in found):
                return
            time.sleep(REFRESH_SECONDS)


def _goes_on(experiment: Json) -> bool:
    if "error" in experiment:
        return False
    open_cells = {"queued", "running"} & set(experiment["counts"])
    return bool(open_cells) or any(sweep["alive"] for sweep in experiment["sweeps"])


def _lines(found: list[Json], words: Sequence[str], results: Path) -> Iterator[Line]:
    if not found:
        yield Line(f"No experiment has been swept into {results}/ yet.")
    for experiment in found:
        if "error" in experiment:
            yield from _wrong(experiment)
            continue
        yield from _heading(experiment)
        if is_whole(words):
            yield from _most(experiment, results)
        else:
            yield from (line for cell in sorted(experiment["cells"], key=_order) for line in _described(cell))


def _wrong(experiment: Json) -> Iterator[Line]:
    what, *more = experiment["error"].splitlines()
    yield Line(f"{experiment['name']}: {what}", "red")
    yield from (Line(line.strip(), indent=2) for line in more)


def _heading(experiment: Json) -> Iterator[Line]:
    yield Line(f"{experiment['name']}: {text.states(Counter(experiment['counts']))}", "bold")
    for sweep in experiment["sweeps"]:
        if sweep["stopped"]:
            yield Line(f"sweep {sweep['name']} was stopped: {sweep['stopped']}", "yellow", 2)
        elif sweep["alive"]:
            yield Line(f"sweep {sweep['name']} goes on, on {sweep['host']}", indent=2)
    for exclusion in experiment["excluded"]:
        said = f"left out on purpose: {exclusion['where']}, {text.count(exclusion['cells'])}: {exclusion['reason']}"
        yield Line(said, indent=2)


def _most(experiment: Json, results: Path) -> Iterator[Line]:
    """List the cells that need attention, at most MOST_CELLS of a kind."""
    for kind in LISTED:
        cells = [cell for cell in experiment["cells"] if cell["state"] == kind or cell.get(kind)]
        for cell in cells[:MOST_CELLS]:
            yield from _described(cell, kind)
        if len(cells) > MOST_CELLS:
            wanted = {"collapsed": "collapsed=true", "held": "state=queued"}.get(kind, f"state={kind}")
            named = [] if experiment["name"] == OTHERS else [experiment["name"]]
            yield Line(f"and {len(cells) - MOST_CELLS} more: {command('status', [*named, wanted], results)}", indent=2)
    if "stale" in experiment["counts"]:
        said = "stale: finished with an earlier version of a component; harness sweep --rerun-stale trains anew"
        yield Line(said, indent=2)


def _order(cell: Json) -> int:
    return ALL.index(cell["state"])


def _described(cell: Json, kind: str = "") -> Iterator[Line]:
    """Describe a cell in a few lines, as one of its ``kind``."""
    kind = kind or cell["state"]
    result = _result(cell, kind)
    yield Line(f"{kind:9} {cell['cell_id']}  {cell['name']}{': ' if result else ''}{result}", COLOURS.get(kind, ""), 2)
    if kind == "running" and cell["ends"]:
        causes = ", ".join(f"{count} {cause.replace('_', ' ')}" for cause, count in cell["ends"].items())
        yield Line(f"attempt {cell['attempts']}; before: {causes}", indent=12)
    if kind == "running":
        yield Line(f"{_doing(cell['progress'])}, on {cell['host'] or 'its node'}", indent=12)
    if kind == "failed":
        said_twice = cell["error"].lower().startswith(cell["cause"])
        yield Line(cell["error"] if said_twice else f"{cell['cause']}: {cell['error']}", indent=12)
        yield Line(f"log: {cell['log']}", "dim", indent=12)


def _result(cell: Json, kind: str) -> str:
    if kind == "finished" and cell["metrics"]:
        return f"kNN {cell['metrics']['test_knn']:.2f} %, {hours(cell['seconds'] / 3600)}"
    if kind in ("queued", "held") and cell["job"]:
        held = f"; scontrol release {cell['job']}" if "held" in (cell["waits"] or "").lower() else ""
        return f"job {cell['job']} waits ({cell['waits']}){held}"
    if kind == "missing" and cell["attempts"]:
        return "interrupted; the next sweep goes on from its checkpoint"
    return cell["collapsed"] if kind == "collapsed" else ""


def _doing(progress: Json | None) -> str:
    if progress is None:
        return "starting"
    loss = "" if progress["loss"] is None else f"loss {progress['loss']:.3f}, "
    return (
        f"epoch {progress['epoch']} of {progress['epochs']}, {loss}{progress['samples_per_second']:.0f} samples/s, "
        f"{hours(progress['seconds_left'] / 3600)} left"
    )


def _padded(line: Line) -> Padding:
    """Wrapped below its beginning."""
    return Padding(Text(line.text, line.style), (0, 0, 0, line.indent), expand=False)
