"""Sweeps whose cells are jobs of a cluster: what a verb does with them, whichever scheduler the cluster has.

Slurm is the only scheduler so far. No process has to stay for a submitted sweep: what a verb asks of it, it reads from
the ledgers, the records and the scheduler's queue.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from harness.environment.revision import source_hash
from harness.errors import DamagedFile, UserError
from harness.manifest import Manifest
from harness.store.record import Busy, Record
from harness.store.submission import Submission
from harness.store.sweeps.ledger import Ledger, Policy
from harness.store.writer_lock import writer_lock
from harness.sweep.declare.schema import ClusterConfig
from harness.sweep.launch import Declared
from harness.sweep.plan.plan import Entry, Plan, PlanEstimate
from harness.sweep.run.scheduler import Job
from harness.sweep.run.supervisor import Task
from harness.sweep.slurm.endings import is_submitted_again
from harness.sweep.slurm.lost_outcomes import record_lost_outcomes
from harness.sweep.slurm.scheduler import (
    SlurmScheduler,
    open_sweeps,
    poll_scheduler,
    resources_of,
)

#: The time between two looks at the records; the scheduler is asked more rarely.
POLL_SECONDS = 5.0


class Submitted(NamedTuple):
    """What became of cells that were to be submitted: ``cells`` of them were, as the sweep with this name, and
    ``left`` wait until there is room in the queue."""

    sweep: str
    cells: int
    left: int = 0


class SweepProgress(NamedTuple):
    """A look at a sweep that is waited for.

    Attributes:
        counts: the number of cells in each state.
        waits_for: the scheduler's reasons for which queued cells wait, each with the number of cells.
        submitted: the cells that have just been submitted again; None if there are none.
        refusal: why cells could not be submitted again now; empty if they were, or none had to be.
    """

    counts: Counter[str]
    waits_for: Counter[str]
    submitted: Submitted | None = None
    refusal: str = ""


@dataclass
class SubmittedSweep:
    """A sweep of an experiment's cells on a cluster.

    Attributes:
        submission: how every cell is run, except for what its resources decide.
        again: the command that submits what is still missing.
        ledger: the sweep's ledger; None until cells are submitted.
        left_out: the ids of cells that are not submitted since they fit on no node, or their records
            cannot be repaired.
    """

    declared: Declared
    results: Path
    submission: Submission
    again: str
    rerun_stale: bool = False
    ledger: Ledger | None = None
    left_out: set[str] = field(default_factory=set)

    def estimate(self, entries: Sequence[Entry]) -> PlanEstimate | None:
        """Return what these cells take; None if that is unknown: without a GPU, a GPU's steps cannot be measured."""
        try:
            return self.declared.estimate(entries)
        except UserError:
            return None

    def scripts(self, entries: Sequence[Entry]) -> Iterator[str]:
        """Yield the batch scripts of these cells, as the scheduler would get them."""
        cluster = self.declared.declaration.cluster
        scheduler = SlurmScheduler(Ledger(self.results / "sweeps" / f"{self.declared.manifest.name}.N"), cluster)
        return scheduler.scripts(self._jobs(scheduler, entries))

    def submit(self, entries: Sequence[Entry]) -> Submitted:
        """Submit those of these cells that are still missing, as far as there is room in the queue.

        Raises:
            UserError: another process is submitting cells, or the cluster refuses.
        """
        with one_submitter(self.results):
            missing = {entry.cell.cell_id for entry in self.declared.plan_now().to_run(self.rerun_stale)}
            entries = [entry for entry in entries if entry.cell.cell_id in missing]
            chosen = entries[: self._room()]
            if chosen:
                scheduler = self._scheduler()
                scheduler.submit(self._jobs(scheduler, chosen))
        return Submitted(self.ledger.path.name if self.ledger else "", len(chosen), len(entries) - len(chosen))

    def in_queue(self) -> int:
        """Return how many of the experiment's cells are in the queue or run, as far as is known."""
        sweeps = open_sweeps(self.results, self.declared.manifest.name)
        return sum(1 for sweep in sweeps for _ in sweep.batches.open_cells())

    def wait(self) -> Iterator[SweepProgress]:
        """Look at the sweep until no job is left and none may be submitted again; submit again what may succeed.

        A cluster that refuses is asked again as long as jobs are left: its controller may be down for a while.

        Raises:
            UserError: the cluster refuses, and no job is left.
        """
        while True:
            poll(self.results, settling=True, name=self.declared.manifest.name)
            plan = self.declared.plan_now()
            counts, again, submitted, refusal = plan.counts(), self._submitted_again(plan), None, ""
            jobs_left = counts["queued"] + counts["running"] > 0
            if again:
                try:
                    submitted = self.submit(again)
                except UserError as error:
                    if not jobs_left:
                        raise
                    refusal = error.what
            yield SweepProgress(counts, _reasons(plan), submitted if submitted and submitted.cells else None, refusal)
            if not again and not jobs_left:
                return
            time.sleep(POLL_SECONDS)

    def _submitted_again(self, plan: Plan) -> list[Entry]:
        """Return the cells that this sweep may submit now: all that are missing if it has submitted none yet."""
        ledger = self.ledger
        entries = [entry for entry in plan.to_run(self.rerun_stale) if entry.cell.cell_id not in self.left_out]
        if ledger is None:
            return entries
        if ledger.stop_reason():
            return []
        return [entry for entry in entries if is_submitted_again(entry.record, ledger)]

    def _room(self) -> int | None:
        """Return how many more cells may be in the queue; None if any number may."""
        most = self.declared.declaration.cluster.max_jobs
        return None if most is None else max(0, most - self.in_queue())

    def _scheduler(self) -> SlurmScheduler:
        declaration, manifest = self.declared.declaration, self.declared.manifest
        cluster = declaration.cluster
        if self.ledger is None:
            self.ledger = _open(self.results, manifest, declaration.failures, cluster, self.again).ledger
        return SlurmScheduler(self.ledger, cluster)

    def _jobs(self, scheduler: SlurmScheduler, entries: Sequence[Entry]) -> list[Job]:
        declared = self.declared
        return [
            scheduler.job(declared.task(entry, self.submission), declared.resources(entry.cell)) for entry in entries
        ]


def poll(results: Path, *, settling: bool, name: str = "*") -> str:
    """Ask the scheduler about the open jobs of these sweeps, unless it was asked a moment ago.

    Return why it could not be asked; the empty string if it could.

    Args:
        settling: also write into records how attempts ended that could not write it themselves.
        name: the sweeps of this experiment at this scale, of all by default.
    """
    sweeps = open_sweeps(results, name)
    refusal = poll_scheduler(sweeps)
    if settling:
        for sweep in sweeps:
            record_lost_outcomes(sweep)
    return refusal


def cancel_queued(results: Path, cells: Collection[str]) -> None:
    """Take the jobs out of the queue that contain only these cells, whose records say that they are withdrawn.

    Raises:
        UserError: the scheduler does not answer.
    """
    for sweep in open_sweeps(results):
        sweep.cancel(sweep.open_tasks(cells))


def cluster_of(record: Record) -> ClusterConfig | None:
    """Return the cluster that a cell was submitted to; None if it ran on a machine without a scheduler.

    Raises:
        DamagedFile: the ledger of its sweep has lost the profile of the cluster: the cell is not to run elsewhere.
    """
    submission = record.submission()
    sweep = record.sweep_folder(submission)
    stored = Ledger(sweep).facts().get("cluster") if sweep else None
    if sweep and submission and submission.allocation and not stored:
        again = "the same harness sweep again, with its cluster=NAME"
        raise DamagedFile(sweep / "sweep.json", "it does not say to which cluster the cell was submitted", again)
    return ClusterConfig.from_json(stored) if stored else None


def resubmit(cells: Sequence[tuple[str, Record]], manifest: Manifest, results: Path, again: str) -> Submitted:
    """Submit cells to the cluster that they were submitted to before, with the code of now.

    Args:
        cells: the cells' names and records.
        again: the command that does the same again.

    Raises:
        UserError: another process is submitting cells, or the cluster refuses.
    """
    cluster = cluster_of(cells[0][1])
    before = cells[0][1].sweep_folder(cells[0][1].submission())
    assert cluster
    assert before
    code = source_hash()
    with one_submitter(results):
        scheduler = _open(results, manifest, Ledger(before).policy(), cluster, again)
        jobs = []
        for name, record in cells:
            submission = record.submission()
            assert submission
            task = Task(record, record.cell(), name, replace(submission, run=replace(submission.run, source_hash=code)))
            jobs.append(scheduler.job(task, resources_of(submission)))
        scheduler.submit(jobs)
    return Submitted(scheduler.ledger.path.name, len(jobs))


def _open(results: Path, manifest: Manifest, policy: Policy, cluster: ClusterConfig, again: str) -> SlurmScheduler:
    """Open a sweep of these cells, with a manifest of its own: a later sweep may declare other cells."""
    scheduler = SlurmScheduler.open(results, manifest.name, policy, cluster, again)
    manifest.save(scheduler.ledger.manifest)
    return scheduler


def _reasons(plan: Plan) -> Counter[str]:
    statuses = (plan.index.job_status(entry.cell.cell_id) for entry in plan.entries if entry.state == "queued")
    return Counter(status.why for status in statuses if status and status.why)


@contextmanager
def one_submitter(results: Path) -> Iterator[None]:
    """Keep other processes from submitting cells meanwhile: two would both take the same cells for missing.

    Raises:
        UserError: another process is submitting cells.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(writer_lock(results / "sweeps" / "submitting"))
        except Busy as busy:
            raise UserError(
                f"another process is submitting cells ({busy})",
                where=str(results / "sweeps"),
                next_command="the same command again in a moment",
            ) from None
        yield
