"""``harness sweep``: train every cell that is missing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.shared.arguments import Experiment, Overrides, Plugin, Results, command
from harness.cli.shared.confirm import confirm
from harness.cli.shared.disk_space import confirm_space, required_space
from harness.cli.shared.load_experiment import Declared, load, other_scale
from harness.cli.shared.plan_text import not_retried, refusals
from harness.cli.shared.run_locally import Foreground
from harness.cli.shared.run_on_slurm import Submitted
from harness.cli.shared.scheduler import refresh_job_states
from harness.cli.shared.text import count, hours, states
from harness.environment.revision import source_hash
from harness.errors import UserError
from harness.manifest import Manifest
from harness.store.job_arrays import JobArrays
from harness.store.ledger import Ledger
from harness.store.submission import RunConfig, Submission
from harness.sweep.plan.plan import Entry, PlanEstimate
from harness.sweep.run.local_scheduler import LocalScheduler
from harness.sweep.run.slots import Slots
from harness.sweep.run.supervisor import Task


def sweep(
    experiment: Experiment,
    overrides: Overrides = None,
    results: Results = Path("results"),
    tracking_uri: Annotated[
        str, typer.Option(help="An MLflow tracking URI; by default sqlite in the results folder.")
    ] = "",
    plugin: Plugin = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, whatever it costs.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print exactly what would be submitted; write and run nothing.")
    ] = False,
    rerun_stale: Annotated[
        bool, typer.Option("--rerun-stale", help="Also train stale cells: those of an older version of a component.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="On a cluster: stay until all has ended, and submit again what may succeed.")
    ] = False,
    allow_code_drift: Annotated[
        bool, typer.Option("--allow-code-drift", help="On a cluster: jobs run although the code changes after this.")
    ] = False,
) -> None:
    """Train every missing cell of an experiment.

    The results are copied to MLflow while the sweep runs. The same command again trains only what is missing, and
    interrupted cells go on from their checkpoints. Ctrl-C once: no new cell starts, and running cells write their
    checkpoints and stop; twice: everything stops at once.

    On a cluster (cluster=NAME, docs/slurm.md) it submits jobs and ends. The same command again submits what is still
    missing; harness status shows how far the jobs are, and harness sync copies their results to MLflow.
    """
    plugins = plugin or []
    refresh_job_states(results, settling=not dry_run)
    options = ["--rerun-stale"] if rerun_stale else []
    again = command("sweep", [experiment, *(overrides or []), *options], results, tracking_uri, plugins)
    declared = load(experiment, overrides or [], results, plugins=plugins, may_download=not dry_run)
    if not dry_run:
        _refuse_to_forget(declared, results, again)
    if declared.on_cluster:
        submission = _submission(declared, "" if allow_code_drift else source_hash())
        submitted = Submitted(declared, results, tracking_uri, again, submission, rerun_stale)
        submitted.print_scripts() if dry_run else submitted.run(yes, wait)
        return
    to_run = declared.plan.to_run(rerun_stale=rerun_stale)
    others = [entry for entry in declared.plan.entries if entry.state in ("running", "queued")]
    on_cluster = [entry for entry in others if _is_submitted(declared, entry)]
    elsewhere = [entry for entry in others if not _is_submitted(declared, entry)]
    estimate = declared.estimate(to_run)
    if dry_run:
        _print_jobs(_tasks(declared, estimate), _refusals(declared, estimate))
        return
    print(f"{declared.manifest.name}: {states(declared.plan.counts())}", flush=True)
    _agree(declared, estimate, results, yes, again)
    declared.manifest.write(results)
    # What runs elsewhere is waited for, and taken over when its holder dies.
    tasks = [*_tasks(declared, estimate), *_tasks(declared, declared.estimate(elsewhere))]
    stale = 0 if rerun_stale else declared.plan.counts()["stale"]
    if stale:
        print(f"{count(stale)} of an older version of a component: {again} --rerun-stale trains the present one")
    if on_cluster:
        print(f"{count(len(on_cluster))} left to a cluster's jobs (harness status; harness cancel takes them back)")
    if not to_run and not elsewhere and not stale and not on_cluster:
        print("Nothing is missing.")
    slots = declared.slots
    if slots.device == "cpu":  # every process on GPUs has one, and its memory, to itself
        slots = replace(slots, memory=estimate.memory_limit)
    policy = declared.declaration.failures
    foreground = Foreground(declared.manifest, results, tracking_uri, again, slots, policy)
    complete = foreground.run(tasks, declared.plan.counts()["finished"], len(declared.plan.entries))
    _closing_lines(experiment, declared, results, tracking_uri, plugins)
    if not complete or estimate.refused or declared.plan.not_retried() or stale or on_cluster:
        raise typer.Exit(1)


def _is_submitted(declared: Declared, entry: Entry) -> bool:
    """Whether a cluster's job has the cell."""
    said = declared.plan.index.job_status(entry.cell.cell_id)
    return said is not None and not said.over


def _refuse_to_forget(declared: Declared, results: Path, again: str) -> None:
    """A manifest is what an experiment expects: cells that a living sweep of it still has to run must stay in it.

    Raises:
        UserError: there is such a sweep, with open cells that are not declared here.
    """
    declares, index = {cell.cell_id for cell in declared.manifest.cells}, declared.plan.index
    for ledger in Ledger.all_of(results, declared.manifest.name):
        cells, facts = set(JobArrays(ledger.path).open_cells()), ledger.facts()
        who, stop = "in the cluster's queue", command("cancel", [declared.manifest.name], results)
        if ledger.alive(time.time()) and ledger.manifest.exists():
            cells = {cell.cell_id for cell in Manifest.load(ledger.manifest).cells}
            who, stop = f"process {facts['pid']} on {facts['host']}", "Ctrl-C there"
        lost = sum(index[cell_id].state != "finished" for cell_id in cells - declares)
        if lost:
            raise UserError(
                f"a sweep of {declared.manifest.name} goes on ({who}), and {count(lost)} that it has yet to finish "
                "would be left out",
                where=str(ledger.path),
                allowed="the same cells and more, or a file of another name",
                next_command=f"wait for it, or stop it: {stop}; then {again}",
            )


def _agree(declared: Declared, estimate: PlanEstimate, results: Path, yes: bool, again: str) -> None:
    """Say what will run and what it costs; ask where that is much."""
    for line in [*not_retried(declared.plan, declared.manifest.varying), *_refusals(declared, estimate)]:
        print(line)
    if not estimate.entries:
        return
    slots = declared.slots
    processes = f"{slots.count} process{'' if slots.count == 1 else 'es'} at a time on {slots.device}"
    threads = f"{slots.threads} thread{'s' if slots.threads > 1 else ''} each"
    print(
        f"about {hours(estimate.wall_hours)} ({estimate.device_hours:.1f} device-hours), {processes}, {threads}; "
        "Ctrl-C stops in order",
        flush=True,
    )
    most = declared.declaration.cluster.ask_hours
    if estimate.device_hours > most:
        confirm(f"That is more than {most:g} device-hours (cluster.ask_hours). Train?", yes, again)
    confirm_space(required_space(declared, estimate.entries, estimate, results), yes, again)


def _refusals(declared: Declared, estimate: PlanEstimate) -> list[str]:
    return list(refusals(estimate, declared.manifest.varying))


def _name(declared: Declared, entry: Entry) -> str:
    return entry.label(declared.manifest.varying)


def _tasks(declared: Declared, estimate: PlanEstimate) -> list[Task]:
    """What the supervisor runs, or waits for: cells for which there is room."""
    common, given = _submission(declared), declared.resources
    if any(given(entry.cell).nodes > 1 for entry in estimate.entries):
        raise UserError("this machine is one node, and there are cells of several", where="cluster.nodes", allowed="1")
    tasks = []
    for entry in estimate.entries:
        run = given(entry.cell).run_config(replace(common.run, memory=estimate.memory(entry)), entry.cell)
        tasks.append(Task(entry.record, entry.cell, _name(declared, entry), replace(common, run=run)))
    return tasks


def _submission(declared: Declared, source_hash: str = "") -> Submission:
    """How every cell is run, but for what its resources decide."""
    root = declared.declaration.experiment.dataset.root
    run = RunConfig(
        threads=declared.slots.threads,
        device=declared.slots.device,
        root=str(Path(root).resolve()) if root else None,
        evaluation=declared.declaration.evaluation,
        compile=declared.declaration.cluster.compile,
        plugins=tuple(declared.plugins),
        source_hash=source_hash,
    )
    return Submission(run, experiment=declared.manifest.experiment, scale=declared.manifest.scale)


def _print_jobs(tasks: Sequence[Task], refusals: Sequence[str]) -> None:
    """What would be submitted, in order, and why other cells would not."""
    scheduler = LocalScheduler(Slots(1, 1, "cpu"))
    for line in refusals:
        print(f"# {line}")
    if tasks:
        print("# (a sweep writes cell.json and submission.json into each record before it begins)")
    for task in tasks:
        print(f"# {task.name}: {task.record.path}")
        print(scheduler.script(task.job(task.submission)))


def _closing_lines(experiment: str, declared: Declared, results: Path, tracking_uri: str, plugins: list[Path]) -> None:
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
            cells = f"{count(len(there.plan.entries))} on {there.manifest.dataset}"
            cost = command("plan", [experiment, f"scale={other}"], results, plugins=plugins)
            print(f"{other + ':':9} {cells}; what they cost: {cost}")
