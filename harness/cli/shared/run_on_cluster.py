"""A sweep that goes to a cluster: what is printed, asked and, with --wait, waited for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from harness.cli.shared.arguments import command
from harness.cli.shared.confirm import confirm
from harness.cli.shared.disk_space import confirm_space
from harness.cli.shared.plan_text import damages, not_retried, refusals
from harness.cli.shared.text import count, hours, states
from harness.sweep.cluster import Submitted, SubmittedSweep, SweepProgress
from harness.sweep.plan.plan import Entry, PlanEstimate
from harness.sweep.tracking.mirror_process import MirrorProcess
from harness.sweep.tracking.tracking_uri import default_uri


@dataclass(frozen=True)
class ClusterRun:
    """Submits a sweep to a cluster and prints what happens."""

    sweep: SubmittedSweep
    tracking_uri: str

    def print_scripts(self) -> None:
        """Print the batch scripts, as the cluster would get them."""
        entries, estimate = self._to_run()
        for line in self._refusals(estimate):
            print(f"# {line}")
        for script in self.sweep.scripts(entries):
            print(script)

    def run(self, yes: bool, wait: bool) -> None:
        """Submit what is missing, after its cost was agreed to; with ``wait``, stay until nothing is left to do.

        Raises:
            typer.Exit: 1 where cells are left out since they fit on no node; with ``wait``, where any has not finished.
        """
        sweep, results = self.sweep, self.sweep.results
        manifest, plan = sweep.declared.manifest, sweep.declared.plan
        print(f"{manifest.name}: {states(plan.counts())}", flush=True)
        entries, estimate = self._to_run()
        varying = manifest.varying
        for line in [*damages(plan, varying), *not_retried(plan, varying), *self._refusals(estimate)]:
            print(line)
        if entries:
            self._agree(entries, estimate, yes)
        refused = sweep.declared.set_damage_aside() & {entry.cell.cell_id for entry in entries}
        for entry in entries:
            if entry.cell.cell_id in refused:
                print(f"not submitted: {entry.label(varying)}: its damaged record cannot be repaired now (see above)")
        entries = [entry for entry in entries if entry.cell.cell_id not in refused]
        sweep.left_out |= refused
        manifest.write(results)
        store = self.tracking_uri or default_uri(results)
        # The store is there before any job starts; and jobs never write to it.
        mirrored = MirrorProcess(results, manifest.file(results, manifest.name), store)
        with mirrored:
            if entries:
                self._print_submitted(sweep.submit(entries))
            if wait:
                self._wait()
        for note in mirrored.notes:
            print(f"MLflow: {note}")
        self._print_next_commands(bool(entries), wait)
        unfinished = wait and not all(entry.state == "finished" for entry in sweep.declared.plan_now().entries)
        if sweep.left_out or unfinished:
            raise typer.Exit(1)

    def _to_run(self) -> tuple[Sequence[Entry], PlanEstimate | None]:
        """Return the cells to submit, without those that are known not to fit, and what they take, if that is known."""
        missing = self.sweep.declared.plan.to_run(self.sweep.rerun_stale)
        estimate = self.sweep.estimate(missing)
        if estimate is None:
            return missing, None
        self.sweep.left_out = {entry.cell.cell_id for entry in estimate.refused}
        return estimate.entries, estimate

    def _refusals(self, estimate: PlanEstimate | None) -> list[str]:
        """Return why cells are left out that fit on no node, as far as their memory is known."""
        return list(refusals(self.sweep.declared, estimate)) if estimate else []

    def _agree(self, entries: Sequence[Entry], estimate: PlanEstimate | None, yes: bool) -> None:
        """Print what the cells cost; ask where that is much."""
        declared, again = self.sweep.declared, self.sweep.again
        cluster = declared.declaration.cluster
        device = "GPU-hours" if cluster.device == "cuda" else "core-hours"
        if estimate:
            about = estimate.device_hours
            cost = f"about {about:.2g} {device}, {hours(estimate.wall_hours)} once they all run"
        else:
            about = declared.hours_at_most(entries)
            cost = f"at most {about:.2g} {device}, if every cell needs its whole time limit; its cost is not known yet"
        where = cluster.partition or "the default partition"
        print(f"{count(len(entries))} to submit to {where}: {cost}", flush=True)
        if about > cluster.ask_hours:
            limit = f"more than {cluster.ask_hours:g} device-hours (cluster.ask_hours)"
            confirm(f"That is {limit}. Submit?", yes, again)
        confirm_space(declared.disk_space(entries, estimate, self.sweep.results), yes, again)

    def _print_submitted(self, submitted: Submitted) -> None:
        if submitted.cells:
            print(f"{count(submitted.cells)} submitted as {submitted.sweep}", flush=True)
        if submitted.left:
            most = self.sweep.declared.declaration.cluster.max_jobs
            wait = f"{count(submitted.left)} {'waits' if submitted.left == 1 else 'wait'}"
            print(f"{wait} until there is room in the queue (cluster.max_jobs is {most})", flush=True)

    def _wait(self) -> None:
        """Print what changes until no job is left; Ctrl-C ends only the waiting."""
        before = ""
        try:
            for progress in self.sweep.wait():
                line = _line(progress)
                if line != before:
                    print(f"{time.strftime('%T')} {line}", flush=True)
                before = line
                if progress.submitted:
                    self._print_submitted(progress.submitted)
        except KeyboardInterrupt:
            print("\nno longer waiting; the jobs go on")

    def _print_next_commands(self, submitted: bool, waited: bool) -> None:
        name, results = self.sweep.declared.manifest.name, self.sweep.results
        if not submitted and not waited:
            in_queue = self.sweep.in_queue()
            nothing = "Nothing else is missing" if self.sweep.left_out else "Nothing is missing"
            print(f"{nothing}{' but what is in the queue' if in_queue else ''}.")
        print(f"status:   {command('status', [name], results)}")
        print(f"MLflow:   {command('sync', [name], results, self.tracking_uri)}")
        print(f"again:    {self.sweep.again}   (submits only what is missing)")


def _line(progress: SweepProgress) -> str:
    """Return the states of a sweep's cells, and what keeps them from running, in one line."""
    reasons = ", ".join(f"{cells} {reason}" for reason, cells in progress.waits_for.items())
    line = states(progress.counts) + (f" ({reasons})" if reasons else "")
    return f"{line}; {progress.refusal}; it will be tried again" if progress.refusal else line
