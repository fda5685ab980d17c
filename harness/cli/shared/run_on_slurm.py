"""A sweep that goes to a cluster: what is said, submitted and, with --wait, waited for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from harness.cli.shared.arguments import command
from harness.cli.shared.confirm import confirm
from harness.cli.shared.disk_space import confirm_space
from harness.cli.shared.plan_text import not_retried, refusals
from harness.cli.shared.text import count, hours, states
from harness.errors import UserError
from harness.store.ledger import Ledger
from harness.store.record import Busy
from harness.store.submission import Submission
from harness.store.writer_lock import writer_lock
from harness.sweep.expand.resources import Resources
from harness.sweep.launch import Declared
from harness.sweep.plan.plan import Entry, Plan, PlanEstimate
from harness.sweep.run.supervisor import Task
from harness.sweep.slurm.endings import is_submitted_again
from harness.sweep.slurm.submission import SlurmScheduler, open_sweeps, poll_scheduler, record_lost_outcomes
from harness.sweep.tracking.mirror_process import MirrorProcess
from harness.sweep.tracking.tracking_uri import default_uri

#: Between two looks at the records; the scheduler is asked more rarely.
POLL_SECONDS = 5.0
#: In a dry run where Slurm cannot be asked.
USUAL_ARRAY = 1001


@dataclass
class Submitted:
    """``submission``: how every cell is run, but for its resources; ``again``: the command to go on with."""

    declared: Declared
    results: Path
    tracking_uri: str
    again: str
    submission: Submission
    rerun_stale: bool

    def print_scripts(self) -> None:
        """The batch scripts, as sbatch would get them."""
        to_run = self.declared.plan.to_run(self.rerun_stale)
        estimate = self._estimate(to_run)
        entries = estimate.entries if estimate else to_run
        cluster = self._cluster(Ledger(self.results / "sweeps" / f"{self.declared.manifest.name}.N"))
        for line in self._refusals(estimate):
            print(f"# {line}")
        for script in cluster.scripts([cluster.job(*task) for task in self._tasks(entries)], USUAL_ARRAY):
            print(script)

    def run(self, yes: bool, wait: bool) -> None:
        """Submit what is missing, after its cost was agreed to; with ``wait``, until nothing is left to do.

        Raises:
            typer.Exit: with ``wait``, 1 where cells have not finished.
        """
        manifest, plan = self.declared.manifest, self.declared.plan
        print(f"{manifest.name}: {states(plan.counts())}", flush=True)
        to_run = plan.to_run(self.rerun_stale)
        estimate = self._estimate(to_run)
        entries = estimate.entries if estimate else to_run
        for line in [*not_retried(plan, manifest.varying), *self._refusals(estimate)]:
            print(line)
        if entries:
            self._agree(entries, estimate, yes)
        manifest.write(self.results)
        store = default_uri(self.results)
        # The store is there before any job starts; and jobs never write to it.
        with MirrorProcess(self.results, manifest.file(self.results, manifest.name), self.tracking_uri or store):
            ledger = self._submit(entries, None) if entries else None
            if wait:
                self._wait(ledger)
        self._say_what_next(bool(entries), wait)
        if wait and not all(entry.state == "finished" for entry in self.declared.plan_now().entries):
            raise typer.Exit(1)

    def _cluster(self, ledger: Ledger) -> SlurmScheduler:
        return SlurmScheduler(ledger, self.declared.declaration.cluster)

    def _estimate(self, entries: Sequence[Entry]) -> PlanEstimate | None:
        """What they would take; None where nobody knows: a GPU's steps cannot be measured where there is none."""
        try:
            return self.declared.estimate(entries)
        except UserError:
            return None

    def _refusals(self, estimate: PlanEstimate | None) -> list[str]:
        """Why cells are left out that fit on no node, as far as their memory is known."""
        return list(refusals(estimate, self.declared.manifest.varying)) if estimate else []

    def _agree(self, entries: Sequence[Entry], estimate: PlanEstimate | None, yes: bool) -> None:
        cluster = self.declared.declaration.cluster
        device = "GPU-hours" if cluster.device == "cuda" else "core-hours"
        if estimate:
            about = estimate.device_hours
            cost = f"about {about:.2g} {device}, {hours(estimate.wall_hours)} once they all run"
        else:
            about = self.declared.hours_at_most(entries)
            cost = f"at most {about:.2g} {device}, if every cell needs its whole time limit; its cost is not known yet"
        where = cluster.partition or "the default partition"
        print(f"{count(len(entries))} to submit to {where}: {cost}", flush=True)
        if about > cluster.ask_hours:
            limit = f"more than {cluster.ask_hours:g} device-hours (cluster.ask_hours)"
            confirm(f"That is {limit}. Submit?", yes, self.again)
        confirm_space(self.declared.disk_space(entries, estimate, self.results), yes, self.again)

    def _tasks(self, entries: Sequence[Entry]) -> list[tuple[Task, Resources]]:
        declared = self.declared
        return [(declared.task(entry, self.submission), declared.resources(entry.cell)) for entry in entries]

    def _submit(self, entries: Sequence[Entry], ledger: Ledger | None) -> Ledger | None:
        """Submit what of these is still missing and has room, for a sweep or for a new one; return the sweep's ledger.

        Raises:
            UserError: somebody else is submitting, or the cluster refuses.
        """
        with one_submitter(self.results):
            open_still = {entry.cell.cell_id for entry in self.declared.plan_now().to_run(self.rerun_stale)}
            entries = [entry for entry in entries if entry.cell.cell_id in open_still]
            most = self.declared.declaration.cluster.max_jobs
            chosen = entries if most is None else entries[: max(0, most - self._open())]
            if chosen:
                ledger = ledger or self._ledger()
                cluster, tasks = self._cluster(ledger), self._tasks(chosen)
                submitted = cluster.submit([cluster.job(*task) for task in tasks])
                print(f"{count(len(submitted))} submitted as {ledger.path.name}", flush=True)
        if (left := len(entries) - len(chosen)) and (chosen or ledger is None):
            print(f"{count(left)} wait until there is room in the queue (cluster.max_jobs is {most})", flush=True)
        return ledger

    def _ledger(self) -> Ledger:
        declaration, manifest = self.declared.declaration, self.declared.manifest
        ledger = SlurmScheduler.open(
            self.results, manifest.name, declaration.failures, declaration.cluster, self.again
        ).ledger
        manifest.save(ledger.manifest)
        return ledger

    def _open(self) -> int:
        """The experiment's cells in the queue."""
        clusters = open_sweeps(self.results, self.declared.manifest.name)
        return sum(1 for cluster in clusters for _ in cluster.batches.open_cells())

    def _wait(self, ledger: Ledger | None) -> None:
        """Wait until no job is left and none may be submitted again; Ctrl-C ends only the waiting."""
        name, before, trouble = self.declared.manifest.name, "", ""
        try:
            while True:
                clusters = open_sweeps(self.results, name)
                poll_scheduler(clusters)
                for cluster in clusters:
                    record_lost_outcomes(cluster)
                plan = self.declared.plan_now()
                counts, waiting = plan.counts(), _waiting(plan)
                line = f"{states(counts)}{f' ({waiting})' if waiting else ''}"
                if line != before:
                    print(f"{time.strftime('%T')} {line}", flush=True)
                before = line
                goes_on = counts["queued"] + counts["running"]
                again = [
                    entry
                    for entry in plan.to_run(self.rerun_stale)
                    if not ledger or is_submitted_again(entry.record, ledger)
                ]
                if again and not (ledger and ledger.stop_reason()):
                    try:
                        ledger = self._submit(again, ledger)
                    except UserError as why:  # a controller that is down for a while ends no sweep that goes on
                        if not goes_on:
                            raise
                        if why.what != trouble:
                            print(f"{time.strftime('%T')} {why.what}; it will be tried again", flush=True)
                        trouble = why.what
                elif not goes_on:
                    return
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            print("\nno longer waiting; the jobs go on")

    def _say_what_next(self, submitted: bool, waited: bool) -> None:
        name = self.declared.manifest.name
        if not submitted and not waited:
            print("Nothing is missing." if not self._open() else "Nothing is missing but what is in the queue.")
        print(f"status:   {command('status', [name], self.results)}")
        print(f"MLflow:   {command('sync', [name], self.results, self.tracking_uri)}")
        print(f"again:    {self.again}   (submits only what is missing)")


def _waiting(plan: Plan) -> str:
    """Return the scheduler's reasons for which queued cells wait, each with the number of cells."""
    said = (plan.index.job_status(entry.cell.cell_id) for entry in plan.entries if entry.state == "queued")
    why = Counter(one.why for one in said if one and one.why)
    return ", ".join(f"{cells} {reason}" for reason, cells in why.items())


@contextmanager
def one_submitter(results: Path) -> Iterator[None]:
    """Two submitters at once would both take the same cells for missing.

    Raises:
        UserError: there is another one.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(writer_lock(results / "sweeps" / "submitting"))
        except Busy as busy:
            raise UserError(
                f"somebody else is submitting cells ({busy})",
                where=str(results / "sweeps"),
                next_command="the same command again in a moment",
            ) from None
        yield
