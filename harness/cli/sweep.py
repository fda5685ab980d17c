"""``harness sweep``: train every cell that is missing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.shared.arguments import Experiment, Overrides, Plugin, RerunStale, Results, TrackingUri, Yes, command
from harness.cli.shared.confirm import confirm
from harness.cli.shared.disk_space import confirm_space
from harness.cli.shared.load_experiment import load, other_scale
from harness.cli.shared.plan_text import damages, not_retried, refusals
from harness.cli.shared.run_locally import Foreground
from harness.cli.shared.run_on_cluster import ClusterRun
from harness.cli.shared.scheduler import refresh_job_states
from harness.cli.shared.text import count, hours, states
from harness.environment.process import ProcessIdentity
from harness.environment.revision import source_hash
from harness.errors import DamagedFile, UserError
from harness.manifest import Manifest
from harness.store.sweeps.job_arrays import JobArrays
from harness.store.sweeps.ledger import Ledger
from harness.sweep.cluster import SubmittedSweep
from harness.sweep.launch import Declared
from harness.sweep.plan.plan import PlanEstimate
from harness.sweep.run.local_scheduler import LocalScheduler
from harness.sweep.run.slots import Slots
from harness.sweep.tracking.tracking_uri import public

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print exactly what would be submitted; write and run nothing.")
]
Wait = Annotated[
    bool,
    typer.Option("--wait", help="On a cluster: stay until all jobs have ended, and submit again what may succeed."),
]
AllowCodeDrift = Annotated[
    bool, typer.Option("--allow-code-drift", help="On a cluster: jobs run even if the code changes after this.")
]


def sweep(
    experiment: Experiment,
    overrides: Overrides = None,
    results: Results = Path("results"),
    tracking_uri: TrackingUri = "",
    plugin: Plugin = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    rerun_stale: RerunStale = False,
    wait: Wait = False,
    allow_code_drift: AllowCodeDrift = False,
) -> None:
    """Train every missing cell of an experiment.

    The results are copied to MLflow meanwhile. The same command again trains only what is missing; interrupted cells go
    on from their checkpoints. Ctrl-C once: no new cell starts, and running cells write their checkpoints and stop;
    twice: everything stops at once.

    On a cluster (cluster=NAME, docs/slurm.md) it submits jobs and ends. harness status shows how far they are, harness
    sync copies their results to MLflow, and the same command again submits what is still missing.
    """
    refresh_job_states(results, settling=not dry_run)
    words = [experiment, *(overrides or []), *(["--rerun-stale"] if rerun_stale else [])]
    again = command("sweep", words, results, tracking_uri, plugin or [])
    declared = load(experiment, overrides or [], results, plugins=plugin or [], may_download=not dry_run)
    if not declared.on_cluster:
        _refuse_options_of_jobs(wait, allow_code_drift, again)
    if not dry_run:
        _refuse_to_forget(declared, results, again)
    if declared.on_cluster:
        submission = declared.submission("" if allow_code_drift else source_hash())
        run = ClusterRun(SubmittedSweep(declared, results, submission, again, rerun_stale), tracking_uri)
        run.print_scripts() if dry_run else run.run(yes, wait)
    elif dry_run:
        _print_jobs(declared, rerun_stale)
    else:
        complete = _run_here(declared, results, tracking_uri, again, yes, rerun_stale)
        _closing_lines(experiment, declared, results, tracking_uri, plugin or [])
        raise typer.Exit(0 if complete else 1)


def _refuse_options_of_jobs(wait: bool, allow_code_drift: bool, again: str) -> None:
    """Refuse what is for jobs of a cluster, for a sweep on this machine.

    Raises:
        UserError: one of the options is given.
    """
    why = {
        "--wait": wait and "a sweep on this machine stays until its cells have ended; --wait is for jobs of a cluster",
        "--allow-code-drift": allow_code_drift
        and "a sweep on this machine runs the code as it is; --allow-code-drift is for jobs of a cluster",
    }
    for option, what in why.items():
        if what:
            allowed = "with cluster=NAME, a cluster's profile"
            raise UserError(what, where=f"command line: {option}", allowed=allowed, next_command=again)


def _run_here(declared: Declared, results: Path, tracking_uri: str, again: str, yes: bool, rerun_stale: bool) -> bool:
    """Train the missing cells on this machine; return whether all cells of the experiment have finished."""
    plan, counts = declared.plan, declared.plan.counts()
    missing, elsewhere = plan.to_run(rerun_stale=rerun_stale), declared.in_progress(on_cluster=False)
    on_cluster = declared.in_progress(on_cluster=True)
    estimate = declared.estimate(missing)
    print(f"{declared.manifest.name}: {states(counts)}", flush=True)
    _agree(declared, estimate, results, yes, again)
    declared.set_damage_aside()  # a cell whose record cannot be repaired fails by name when it is started
    declared.manifest.write(results)
    # What runs elsewhere is waited for, and taken over when its holder dies.
    tasks = [*declared.tasks(estimate), *declared.tasks(declared.estimate(elsewhere))]
    stale = 0 if rerun_stale else counts["stale"]
    if stale:
        print(f"{count(stale)} of an older version of a component: {again} --rerun-stale trains the present one")
    if on_cluster:
        print(f"{count(len(on_cluster))} left to a cluster's jobs (harness status; harness cancel takes them back)")
    if not missing and not elsewhere and not stale and not on_cluster:
        print("Nothing is missing.")
    slots = declared.slots
    if slots.device == "cpu":  # every process on GPUs has one, and its memory, to itself
        slots = replace(slots, memory=estimate.memory_limit or 0)
    foreground = Foreground(declared.manifest, results, tracking_uri, again, slots, declared.declaration.failures)
    complete = foreground.run(tasks, counts["finished"], len(plan.entries))
    return complete and not (estimate.refused or plan.not_retried() or stale or on_cluster)


def _refuse_to_forget(declared: Declared, results: Path, again: str) -> None:
    """Refuse to write a manifest without cells that a running sweep of the experiment still has to train.

    Raises:
        UserError: there is such a sweep, with open cells that are not declared here.
    """
    declares, index = {cell.cell_id for cell in declared.manifest.cells}, declared.plan.index
    for ledger in Ledger.all_of(results, declared.manifest.name):
        cells, is_alive = set(JobArrays(ledger.path).open_cells()), ledger.alive()
        who, stop = "in the cluster's queue", command("cancel", [declared.manifest.name], results)
        damages = list(ledger.damages()) if is_alive or not ledger.path.is_dir() else []
        if is_alive and ledger.manifest.exists():
            holder = ProcessIdentity.from_json(ledger.facts())
            who, stop = f"process {holder.pid or '?'} on {holder.host or '?'}", "Ctrl-C there"
            try:
                cells = {cell.cell_id for cell in Manifest.load(ledger.manifest).cells}
            except DamagedFile as damaged:  # which cells that sweep has yet to train is not known
                damages.append(damaged)
        for damage in damages:
            print(f"damaged: {damage.sentence}; no number depends on it", file=sys.stderr)
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
    varying = declared.manifest.varying
    plan = declared.plan
    for line in [*damages(plan, varying), *not_retried(plan, varying), *refusals(declared, estimate)]:
        print(line)
    if not estimate.entries:
        return
    slots = declared.slots
    processes = f"{slots.count} process{'' if slots.count == 1 else 'es'} at a time on {slots.device}"
    threads = f"{slots.threads} thread{'s' if slots.threads > 1 else ''} each"
    print(
        f"about {hours(estimate.wall_hours)} ({estimate.device_hours:.1f} device-hours), {processes}, {threads}; "
        "Ctrl-C: running cells save a checkpoint, then stop",
        flush=True,
    )
    most = declared.declaration.cluster.ask_hours
    if estimate.device_hours > most:
        confirm(f"That is more than {most:g} device-hours (cluster.ask_hours). Train?", yes, again)
    confirm_space(declared.disk_space(estimate.entries, estimate, results), yes, again)


def _print_jobs(declared: Declared, rerun_stale: bool) -> None:
    """Print what would be submitted, in order, and why other cells would not."""
    estimate = declared.estimate(declared.plan.to_run(rerun_stale=rerun_stale))
    tasks = declared.tasks(estimate)
    scheduler = LocalScheduler(Slots(1, 1, "cpu"))
    for line in refusals(declared, estimate):
        print(f"# {line}")
    if tasks:
        print("# (a sweep writes cell.json and submission.json into each record before it begins)")
    scripts = scheduler.scripts([task.job(task.submission) for task in tasks])
    for task, script in zip(tasks, scripts, strict=True):
        print(f"# {task.name}: {task.record.path}")
        print(script)


def _closing_lines(experiment: str, declared: Declared, results: Path, tracking_uri: str, plugins: list[Path]) -> None:
    scale = declared.manifest.scale
    print(f"report:   {command('report', [experiment, f'scale={scale}'], results, tracking_uri)}")
    print(f"MLflow:   {public(tracking_uri) or command('ui', [], results)}")
    for other in declared.declaration.scales:
        if other == scale:
            continue
        try:
            at_scale = other_scale(experiment, other, results, plugins)
        except UserError as error:  # this sweep is done; another scale's mistake is only worth a line
            print(f"{other + ':':9} {error}")
            continue
        if at_scale:
            cells = f"{count(len(at_scale.plan.entries))} on {at_scale.manifest.dataset}"
            cost = command("plan", [experiment, f"scale={other}"], results, plugins=plugins)
            print(f"{other + ':':9} {cells}; what they cost: {cost}")
