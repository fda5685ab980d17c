"""A sweep that goes to a cluster: what is said, submitted and, with --wait, waited for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.cli.arguments import command, short_names
from harness.cli.confirm import confirm
from harness.cli.summary import count, hours, not_retried, refusals, states
from harness.errors import UserError
from harness.index import Index
from harness.ledger import Ledger, Policy
from harness.record import Record
from harness.sweep.cluster import Cluster, look, open_sweeps, settle
from harness.sweep.mirrored import Mirrored
from harness.sweep.plan import Entry, make_plan
from harness.sweep.resources import Resources
from harness.sweep.supervise import KILLS, Task
from harness.sweep.uri import default_uri

if TYPE_CHECKING:
    from harness.cli.declared import Declared

#: Between two looks at the records; the scheduler is asked more rarely.
POLL_SECONDS = 5.0
#: In a dry run where Slurm cannot be asked.
USUAL_ARRAY = 1001


@dataclass
class Submitted:
    """``told``: what every cell's run is told; ``again``: the command to go on with."""

    declared: Declared
    results: Path
    tracking_uri: str
    again: str
    told: dict[str, Any]
    rerun_stale: bool

    def print_scripts(self) -> None:
        """The batch scripts, as sbatch would get them."""
        entries, refused = self._fitting(self.declared.plan.to_run(self.rerun_stale))
        cluster = self._cluster(Ledger(self.results / "sweeps" / f"{self.declared.manifest.name}.N"))
        for line in refused:
            print(f"# {line}")
        for script in cluster.scripts(self._tasks(entries), USUAL_ARRAY):
            print(script)

    def run(self, yes: bool, wait: bool) -> None:
        """Submit what is missing, after its cost was agreed to; with ``wait``, until nothing is left to do.

        Raises:
            typer.Exit: with ``wait``, 1 where cells have not finished.
        """
        manifest, plan = self.declared.manifest, self.declared.plan
        print(f"{manifest.name}: {states(plan.counts())}", flush=True)
        entries, refused = self._fitting(plan.to_run(self.rerun_stale))
        for line in [*not_retried(plan, manifest.varying), *refused]:
            print(line)
        if entries:
            self._agree(entries, yes)
        manifest.write(self.results)
        ledger = None
        if entries:
            policy = Policy(**self.declared.declaration.values["failures"])
            profile = self.declared.declaration.values["cluster"]
            ledger = Cluster.open(self.results, manifest, policy, profile, self.again).ledger
        store = default_uri(self.results)
        # The store is there before any job starts; and jobs never write to it.
        with Mirrored(self.results, manifest.file(self.results, manifest.name), self.tracking_uri or store):
            if entries and ledger:
                self._submit(ledger, entries)
            if wait:
                self._wait(ledger)
        self._say_what_next(bool(entries), wait)
        if wait and not all(entry.state == "finished" for entry in self._present().entries):
            raise typer.Exit(1)

    def _cluster(self, ledger: Ledger) -> Cluster:
        return Cluster(ledger, self.declared.declaration.values["cluster"])

    def _fitting(self, entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
        """The cells that fit on a node, as far as their memory is known, and why others do not."""
        try:
            estimate = self.declared.estimate(entries)
        except UserError:  # a GPU's steps cannot be measured where there is none
            return list(entries), []
        return estimate.entries, list(refusals(estimate, self.declared.manifest.varying))

    def _agree(self, entries: Sequence[Entry], yes: bool) -> None:
        cluster, of = self.declared.declaration.values["cluster"], self.declared.resources
        given = [of(entry.cell) for entry in entries]
        device = "GPU-hours" if cluster["device"] == "cuda" else "core-hours"
        most = sum((one.time or 0) / 60 * one.world_size for one in given)
        try:
            estimate = self.declared.estimate(entries)
            about = estimate.device_hours
            said = f"about {about:.2g} {device}, {hours(estimate.wall_hours)} once they all run"
        except UserError:
            about = most
            said = f"at most {most:.2g} {device} if every cell needs its whole time limit once; nobody knows better yet"
        where = cluster["partition"] or "the default partition"
        print(f"{count(len(entries))} to submit to {where}: {said}", flush=True)
        if about > cluster["ask_hours"]:
            limit = f"more than {cluster['ask_hours']:g} device-hours (cluster.ask_hours)"
            confirm(f"That is {limit}. Submit?", yes, self.again)

    def _tasks(self, entries: Sequence[Entry]) -> list[tuple[Task, Resources]]:
        of, varying = self.declared.resources, self.declared.manifest.varying
        found = []
        for entry in entries:
            given = of(entry.cell)
            name = short_names(entry.axes, varying) or entry.cell.cell_id
            told = {**self.told, "world_size": given.world_size}
            found.append((Task(entry.record, entry.cell, name, told), given))
        return found

    def _submit(self, ledger: Ledger, entries: Sequence[Entry]) -> None:
        most = self.declared.declaration.values["cluster"]["max_jobs"]
        chosen = entries if most is None else entries[: max(0, most - self._open())]
        taken = self._cluster(ledger).submit(self._tasks(chosen))
        print(f"{count(taken)} submitted as {ledger.path.name}", flush=True)
        if left := len(entries) - len(chosen):
            print(f"{count(left)} wait for the next harness sweep (cluster.max_jobs is {most})")

    def _open(self) -> int:
        """The experiment's cells in the queue."""
        clusters = open_sweeps(self.results, self.declared.manifest.name)
        return sum(1 for cluster in clusters for _ in cluster.batches.open_cells())

    def _present(self) -> Any:
        """The plan as it is now."""
        cells = [(entry.cell, dict(entry.axes)) for entry in self.declared.plan.entries]
        return make_plan(cells, Index(self.results / "runs"))

    def _wait(self, ledger: Ledger | None) -> None:
        """Until nothing is in the queue and nothing may be submitted again; Ctrl-C ends only the waiting."""
        name, before = self.declared.manifest.name, None
        try:
            while True:
                clusters = open_sweeps(self.results, name)
                look(clusters)
                for cluster in clusters:
                    settle(cluster)
                plan = self._present()
                if plan.counts() != before:
                    print(f"{time.strftime('%T')} {states(plan.counts())}", flush=True)
                before = plan.counts()
                open_cells = before["queued"] + before["running"]
                again = [entry for entry in plan.to_run(self.rerun_stale) if ledger and _again(entry.record, ledger)]
                if again and ledger and not ledger.refusal():
                    self._submit(ledger, again)
                elif not open_cells:
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


def _again(record: Record, ledger: Ledger) -> bool:
    """Whether a cell that has not finished is submitted again by the same sweep: as a sweep on one machine would."""
    mine = [attempt for attempt in record.attempts() if _of(attempt.provenance(), ledger.path.name)]
    ends = [attempt.outcome() or {} for attempt in mine]
    if not ends:
        return True
    if ends[-1].get("cause") == "cancelled" or "withdrawn" in (record.submission() or {}):
        return False
    errors = sum(end.get("state") == "failed" for end in ends)
    if ends[-1].get("state") == "failed":
        return bool(errors <= ledger.policy().retries)
    without_progress = [attempt for attempt in mine[-KILLS:] if not list(attempt.events())]
    return len(without_progress) < KILLS


def _of(provenance: dict[str, Any], sweep: str) -> bool:
    return bool((provenance.get("submission") or {}).get("sweep") == sweep)
