"""``harness status``: where sweeps stand; reads, never changes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.console import Group as Lines
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from harness.cli.shared import text
from harness.cli.shared.arguments import Results, command
from harness.cli.shared.experiment_status import (
    CellProgress,
    CellStatus,
    DamagedExperiment,
    ExperimentStatus,
    experiments,
)
from harness.cli.shared.scheduler import refresh_job_states
from harness.cli.shared.selection import OTHERS, AnyTarget, AsJson, is_whole
from harness.cli.shared.text import hours
from harness.errors import UserError
from harness.store.index import Index
from harness.store.signs_of_life import STALE_SECONDS

REFRESH_SECONDS = 2.0
#: Of whole experiments, so many cells of a kind are listed.
MOST_CELLS = 10
#: What is listed of whole experiments, and of chosen cells.
LISTED = ("running", "silent", "held", "failed", "damaged", "stale", "collapsed")
ALL = ("running", "queued", "failed", "damaged", "stale", "missing", "finished")
COLOURS = {
    "running": "cyan", "failed": "red", "damaged": "red", "stale": "yellow", "collapsed": "magenta", "finished": "green"
}  # fmt: skip
#: How what begins with a silence ends.
SWEEP_AGAIN = "the same harness sweep again starts what is missing"

Listed = Sequence[ExperimentStatus | DamagedExperiment]


class Line(NamedTuple):
    """A line of the screen: its text, rich's style, and by how many columns it is indented."""

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

    For whole experiments it counts the cells in each state (missing, queued, running, finished, failed, stale, damaged)
    and lists those that run, give no sign of life (silent), have failed, have collapsed or have damaged files. Cells
    chosen by id or filter are all listed.

    --json prints a list of experiments: name, counts, sweeps (name, host, alive, stopped, damaged, silence), excluded
    (where, reason, cells), cells (cell_id, name, state, attempts, ends, host, job, waits, held, progress, cause, error,
    log, collapsed, metrics, seconds, damaged, silence). An experiment whose manifest cannot be read has name and error
    only. ends counts attempts by how they ended; job is the scheduler's id of the job, waits its reason for waiting;
    held is true if the job does not start unless somebody acts; damaged lists the damaged files, null where there are
    none; silence says what is known of a process that gives no sign of life.
    """
    if watch and as_json:
        raise UserError("--watch is for people, --json for programs", where="command line", allowed="one of them")
    refresh_job_states(results, settling=False)
    index, words = Index(results / "runs"), target or []
    if watch:
        _watch(words, results, index)
    elif as_json:
        print(json.dumps([asdict(experiment) for experiment in experiments(words, results, index)], indent=1))
    else:
        _print(experiments(words, results, index), words, results)
    index.remember()


def _print(listed: Listed, words: Sequence[str], results: Path) -> None:
    console = Console()
    for line in _lines(listed, words, results):
        if console.is_terminal:
            console.print(_padded(line))
        else:
            print(f"{'':{line.indent}}{line.text}")


def _watch(words: Sequence[str], results: Path, index: Index) -> None:
    with suppress(KeyboardInterrupt), Live(auto_refresh=False) as live:
        while True:
            refresh_job_states(results, settling=False)
            index.refresh()
            listed = experiments(words, results, index)
            live.update(Lines(*map(_padded, _lines(listed, words, results))), refresh=True)
            if not any(isinstance(item, ExperimentStatus) and item.goes_on for item in listed):
                return
            time.sleep(REFRESH_SECONDS)


def _lines(listed: Listed, words: Sequence[str], results: Path) -> Iterator[Line]:
    if not listed:
        yield Line(f"No experiment has been swept into {results}/ yet.")
    for experiment in listed:
        if isinstance(experiment, DamagedExperiment):
            yield from _damaged(experiment)
            continue
        yield from _heading(experiment)
        if is_whole(words, results):
            yield from _most(experiment, results)
        else:
            yield from (line for cell in sorted(experiment.cells, key=_order) for line in _described(cell))


def _damaged(experiment: DamagedExperiment) -> Iterator[Line]:
    what, *more = experiment.error.splitlines()
    yield Line(f"{experiment.name}: {what}", "red")
    yield from (Line(line.strip(), indent=2) for line in more)


def _heading(experiment: ExperimentStatus) -> Iterator[Line]:
    yield Line(f"{experiment.name}: {text.states(Counter(experiment.counts))}", "bold")
    for sweep in experiment.sweeps:
        if sweep.stopped:
            yield Line(f"sweep {sweep.name} was stopped: {sweep.stopped}", "yellow", 2)
        elif sweep.alive:
            yield Line(f"sweep {sweep.name} goes on, on {sweep.host}", indent=2)
        if sweep.silence:
            yield Line(f"sweep {sweep.name}: {sweep.silence}; {SWEEP_AGAIN}", "yellow", 2)
        for sentence in sweep.damaged or []:
            yield Line(f"sweep {sweep.name}: {sentence}; no number depends on it", "red", 2)
    for exclusion in experiment.excluded:
        cells = text.count(exclusion.cells)
        yield Line(f"left out on purpose: {exclusion.where}, {cells}: {exclusion.reason}", indent=2)


def _most(experiment: ExperimentStatus, results: Path) -> Iterator[Line]:
    """List the cells that need attention, at most MOST_CELLS of a kind."""
    for kind in LISTED:
        cells = [cell for cell in experiment.cells if cell.is_of_kind(kind)]
        for cell in cells[:MOST_CELLS]:
            yield from _described(cell, kind)
        if len(cells) > MOST_CELLS:
            wanted = {"collapsed": "collapsed=true", "held": "state=queued", "silent": "state=missing"}.get(
                kind, f"state={kind}"
            )
            named = [] if experiment.name == OTHERS else [experiment.name]
            yield Line(f"and {len(cells) - MOST_CELLS} more: {command('status', [*named, wanted], results)}", indent=2)
    if "damaged" in experiment.counts:
        again = "the same harness sweep again computes these cells again, unless their files cannot be read now"
        yield Line(f"damaged: {again}; harness fsck reads all", indent=2)
    if "stale" in experiment.counts:
        fix = "harness sweep --rerun-stale trains anew"
        yield Line(f"stale: finished with an earlier version of a component; {fix}", indent=2)


def _order(cell: CellStatus) -> int:
    return ALL.index(cell.state)


def _described(cell: CellStatus, kind: str = "") -> Iterator[Line]:
    """Describe a cell in a few lines, as one of its ``kind``."""
    kind = kind or cell.state
    result = _result(cell, kind)
    yield Line(f"{kind:9} {cell.cell_id}  {cell.name}{': ' if result else ''}{result}", COLOURS.get(kind, ""), 2)
    for sentence in cell.damaged or []:
        yield Line(sentence, "red", indent=12)
    if kind == "running" and cell.ends:
        causes = ", ".join(f"{count} {cause.replace('_', ' ')}" for cause, count in cell.ends.items())
        yield Line(f"attempt {cell.attempts}; before: {causes}", indent=12)
    if kind == "running":
        yield Line(f"{_doing(cell.progress)}, on {cell.host or 'its node'}", indent=12)
        if cell.silence:
            yield Line(cell.silence, "yellow", indent=12)
    if kind == "failed":
        cause, error = cell.cause or "", cell.error or ""
        yield Line(error if error.lower().startswith(cause) else f"{cause}: {error}", indent=12)
        yield Line(f"log: {cell.log}", "dim", indent=12)


def _result(cell: CellStatus, kind: str) -> str:
    if kind == "finished" and cell.metrics:
        return f"kNN {cell.metrics['test_knn']:.2f} %, {hours((cell.seconds or 0) / 3600)}"
    if kind in ("queued", "held") and cell.job:
        held = f"; scontrol release {cell.job}" if "held" in (cell.waits or "").lower() else ""
        return f"job {cell.job} waits ({cell.waits}){held}"
    if kind in ("missing", "silent") and cell.attempts:
        return f"{cell.silence or 'interrupted'}; the next sweep goes on from its checkpoint"
    return cell.collapsed or "" if kind == "collapsed" else ""


def _doing(progress: CellProgress | None) -> str:
    if progress is None:
        return "starting"
    loss = "" if progress.loss is None else f"loss {progress.loss:.3f}, "
    if progress.waits > STALE_SECONDS:
        waits = f"no step for {hours(progress.waits / 3600)}: it evaluates, or one of its processes is stopped"
        return f"epoch {progress.epoch} of {progress.epochs}, {loss}{waits}"
    return (
        f"epoch {progress.epoch} of {progress.epochs}, {loss}{progress.samples_per_second:.0f} samples/s, "
        f"{hours(progress.seconds_left / 3600)} left"
    )


def _padded(line: Line) -> Padding:
    """Return the line for a terminal, which wraps it below its beginning."""
    return Padding(Text(line.text, line.style), (0, 0, 0, line.indent), expand=False)
