"""``harness sweep``: train every cell that is missing."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.arguments import Experiment, Overrides, Plugin, Results, command
from harness.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.cli.declared import Declared
    from harness.ledger import Ledger
    from harness.sweep.plan import Entry
    from harness.sweep.supervise import Task, Watched

MIRROR_SECONDS = 120.0


def sweep(
    experiment: Experiment,
    overrides: Overrides = None,
    results: Results = Path("results"),
    tracking_uri: Annotated[
        str, typer.Option(help="An MLflow tracking URI; by default sqlite in the results folder.")
    ] = "",
    plugin: Plugin = None,
) -> None:
    """Train every missing cell of an experiment, and mirror all to MLflow.

    The same command again runs only what is missing; interrupted cells go on from their checkpoints. Ctrl-C stops in
    order.
    """
    from harness.cli.declared import load
    from harness.cli.summary import hours, states

    plugins = plugin or []
    again = command("sweep", [experiment, *(overrides or [])], results, tracking_uri, plugins)
    declared = load(experiment, overrides or [], results, plugins=plugins, may_download=True)
    print(f"{declared.manifest.name}: {states(declared.plan.counts())}", flush=True)
    complete = True
    declared.manifest.write(results)
    missing = declared.plan.to_run()
    if missing:
        slots = declared.slots
        print(
            f"about {hours(declared.hours(missing))}, {slots.count} cells at a time on {slots.device}, "
            f"{slots.threads} thread{'s' if slots.threads > 1 else ''} each; Ctrl-C stops in order",
            flush=True,
        )
    with _mirrored(results, declared, tracking_uri, again):
        running = [entry for entry in declared.plan.entries if entry.state == "running"]
        if tasks := _tasks(declared, [*missing, *running]):
            complete = _run(declared, tasks, results, again)
        else:
            print("Nothing is missing.")
    _closing_lines(experiment, declared, results, tracking_uri, plugins)
    if not complete:
        raise typer.Exit(1)


def _run(declared: Declared, tasks: list[Task], results: Path, again: str) -> bool:
    """Supervise the cells; True if all of them have finished."""
    from harness.cli.progress import Progress
    from harness.ledger import Ledger, Policy
    from harness.sweep.executors.local import LocalExecutor
    from harness.sweep.supervise import Stopped, supervise

    foreign = [task.record for task in tasks if task.record.state() == "running"]
    if foreign:
        print(f"{len(foreign)} cells are still running from another sweep; here they keep their slots")
    here = [record for record in foreign if record.attempts()[-1].provenance().get("host") == socket.gethostname()]
    policy = Policy(**declared.declaration.values.get("failures", {}))
    ledger = Ledger.open(results, declared.manifest.name, policy, again=again)
    executor = LocalExecutor(declared.slots, occupied=lambda: sum(record.state() == "running" for record in here))
    progress = Progress(declared.plan.counts()["finished"], len(declared.plan.entries))
    try:
        with contextlib.closing(executor), progress:
            watched = supervise(tasks, executor, ledger, progress.update)
    except Stopped as stopped:
        print(f"\nstopped; {stopped}. Go on with: {again}")
        raise typer.Exit(130) from None
    return _closing_account(watched, ledger, again)


def _closing_account(watched: Sequence[Watched], ledger: Ledger, again: str) -> bool:
    """Say what has not finished and why; True if everything has."""
    unfinished = [item for item in watched if not item.finished]
    if reason := ledger.refusal():
        print(f"the sweep was stopped: {reason}")
    if unfinished:
        print(f"{len(unfinished)} of {len(watched)} cells have not finished; try them again with: {again}")
    return not unfinished


def _tasks(declared: Declared, entries: Sequence[Entry]) -> list[Task]:
    """What the supervisor runs, or waits for."""
    from harness.cli.arguments import short_names
    from harness.sweep.supervise import Task

    slots = declared.slots
    root = declared.declaration.values["dataset"]["root"]
    submission = {
        "experiment": declared.manifest.experiment,
        "scale": declared.manifest.scale,
        "executor": "local",
        "threads": slots.threads,
        "device": slots.device,
        "plugins": declared.plugins,
        "root": str(Path(root).resolve()) if root else None,
        "evaluation": declared.declaration.values["evaluate"],
    }
    names = declared.manifest.varying
    return [
        Task(
            entry.record,
            entry.cell,
            short_names(entry.axes, names) or entry.cell.cell_id,
            {**submission, "world_size": declared.declaration.values["cluster"]["world_size"]},
        )
        for entry in entries
    ]


@contextmanager
def _mirrored(results: Path, declared: Declared, tracking_uri: str, again: str) -> Iterator[None]:
    """A process that mirrors records to MLflow until the sweep ends; it can neither slow down nor fail a cell."""
    from harness.sweep.uri import default_uri

    results.mkdir(parents=True, exist_ok=True)
    log = results / "mlflow-mirror.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "harness.sweep.mirror",
                str(results),
                declared.manifest.name,
                tracking_uri or default_uri(results),
            ],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    assert process.stdin is not None
    try:
        yield
    finally:
        process.stdin.close()
        try:
            mirrored = process.wait(MIRROR_SECONDS) == 0
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            mirrored = False
        if not mirrored:
            print(f"the MLflow mirror is incomplete (see {log}); records are not; complete it with: {again}")


def _closing_lines(experiment: str, declared: Declared, results: Path, tracking_uri: str, plugins: list[Path]) -> None:
    from harness.cli.declared import other_scale
    from harness.cli.summary import hours

    scale = declared.manifest.scale
    print(f"report:   {command('report', [experiment, f'scale={scale}'], results, tracking_uri)}")
    print(f"MLflow:   {tracking_uri or command('ui', [], results)}")
    for other in declared.declaration.scales:
        if other == scale:
            continue
        try:
            there = other_scale(experiment, other, results, plugins)
        except UserError as error:  # this sweep is done; another scale's mistake is only worth a line
            print(f"{other + ':':9} {error}")
            continue
        if there:
            cells = f"{len(there.plan.entries)} cells on {there.manifest.dataset}"
            cost = f"about {hours(there.hours(there.plan.entries))} on this machine"
            start = command("sweep", [experiment, f"scale={other}"], results, tracking_uri, plugins)
            print(f"{other + ':':9} {cells}, {cost}: {start}")
