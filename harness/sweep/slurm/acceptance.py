"""The acceptance test of a cluster: a cell of several nodes has the same numbers with and without an interruption.

The cell is trained undisturbed, then again with an interruption, with the jobs, records and resumption of a sweep.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.datasets import find
from harness.environment.diagnosis import Diagnosis
from harness.environment.revision import source_hash
from harness.errors import UserError
from harness.store.record import Attempt, Record
from harness.store.submission import RunConfig, Submission
from harness.store.sweeps.ledger import Policy
from harness.sweep.declare.compose import Declaration, declare
from harness.sweep.expand import grid
from harness.sweep.expand.resources import Resources, resources
from harness.sweep.run.supervisor import Task
from harness.sweep.slurm.commands import Unreachable
from harness.sweep.slurm.lost_outcomes import record_lost_outcomes
from harness.sweep.slurm.scheduler import SlurmScheduler, poll_scheduler

FILE = Path(__file__).parents[2] / "conf" / "acceptance.yaml"
#: The time limit of the whole test, including the time in the queue.
SECONDS = 600.0
#: How long a network's file system may take to show the last files of a job that is over.
SEEN_SECONDS = 60.0
#: The time between two looks at the record, two lines of progress, and two queries to Slurm.
POLL_SECONDS, SAY_SECONDS, ASK_SECONDS = 0.5, 15.0, 15.0
#: By how many per cent accuracies may differ on GPUs, which add in varying order: about seven of the test's digits.
TOLERANCE = 2.0
#: Samples of a process in a step, and the most of all processes together: there are 1,293 digits to train on.
SHARE, LARGEST_BATCH = 32, 1024
#: The size of a cell that trains for about a minute on a GPU.
GPU_SIZE = ("backbone.width=64", "epochs=300")

Say = Callable[[str], object]


class NotDone(Exception):
    """A training did not end, or could not be interrupted; the message says why, and ``fix`` what to change."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.fix = fix


def profile(words: Sequence[str]) -> Declaration:
    """Return the declaration for ``cluster=NAME cluster.KEY=VALUE``, composed and checked as for a sweep.

    Raises:
        UserError: the profile or a value is not allowed.
    """
    return declare(FILE, words)


def declared(words: Sequence[str], nodes: int) -> Declaration:
    """Return the declaration of the cell, with a batch that is large enough for the cluster's processes."""
    cluster = profile(words).cluster
    ranks = nodes * cluster.gpus
    minutes = min(SECONDS / 60, cluster.time or SECONDS)
    batch = ranks * max(2, min(SHARE, LARGEST_BATCH // ranks))
    size = GPU_SIZE if cluster.device == "cuda" else ()
    overrides = [
        f"cluster.nodes={nodes}",
        f"cluster.time={minutes:g}",
        "cluster.cells_per_job=1",
        f"batch_size={batch}",
        *size,
    ]
    replaced = {override.partition("=")[0] for override in overrides}
    kept = [word for word in words if word.partition("=")[0].lstrip("+") not in replaced]
    return declare(FILE, [*kept, *overrides])


@dataclass(frozen=True)
class AcceptanceRun:
    """One training of the cell, in a separate results folder."""

    name: str
    declaration: Declaration
    results: Path

    @cached_property
    def task(self) -> tuple[Task, Resources]:
        """The cell as a sweep submits it, and its resources."""
        declaration, files = self.declaration, find("digits", None)
        ((cell, _),) = grid.expand(declaration, files).cells
        cell_resources = resources(declaration)(cell)
        common = RunConfig(
            threads=declaration.cluster.cpus,
            device=declaration.cluster.device,
            evaluation=declaration.evaluation,
            source_hash=source_hash(),
        )
        run = cell_resources.run_config(common, cell)
        submission = Submission(run, experiment=declaration.name, scale=declaration.scale)
        return Task(Record(self.results / "runs" / cell.cell_id), cell, self.name, submission), cell_resources

    @property
    def record(self) -> Record:
        """The record of the cell that is trained for the test."""
        return self.task[0].record

    @cached_property
    def scheduler(self) -> SlurmScheduler:
        """The scheduler of the test's sweep, with a new ledger."""
        name = f"{self.declaration.name}.{self.declaration.scale}"
        return SlurmScheduler.open(self.results, name, Policy(retries=0), self.declaration.cluster, "harness doctor")

    @property
    def was_opened(self) -> bool:
        """Whether the sweep has a ledger, without which there is no job."""
        return "scheduler" in vars(self)  # where cached_property keeps it

    def submit(self) -> None:
        """Submit the cell, or submit it again."""
        task, cell_resources = self.task
        self.scheduler.submit([self.scheduler.job(task, cell_resources)])

    @property
    def job(self) -> str:
        """The id of the last job; empty before the first one."""
        batches = self.scheduler.batches.all
        return batches[-1].job if batches else ""

    def progress(self) -> str:
        """Return how far the training is, for people."""
        attempts = self.record.attempts()
        if not attempts:
            status = self.scheduler.batches.job_status(self.record.cell_id)
            state, why = (status.state.lower(), status.why) if status else ("pending", "")
            return f"job {self.job} {state} {why}".rstrip()
        epochs = self.declaration.settings["epochs"]
        return f"job {self.job}, attempt {len(attempts)}, epoch {self.epoch()} of {epochs}"

    def epoch(self) -> int:
        """Return the last epoch that the last attempt has logged."""
        events = [event for attempt in self.record.attempts()[-1:] for event in attempt.events()]
        return max((event.epoch or 0 for event in events), default=0)

    def error(self) -> str:
        """Return the error of the last attempt; the empty string if it has not failed."""
        last = self.record.attempts()[-1:]
        ended = last[0].outcome() if last else None
        return ended.error if ended and ended.failed else ""

    def over(self) -> str:
        """Return how the job ended, as Slurm says; the empty string while it has not."""
        status = self.scheduler.batches.job_status(self.record.cell_id)
        return f"job {self.job} is over: {status.state} {status.why}".rstrip() if status and status.over else ""


def ending(attempt: Attempt) -> str:
    """Return how an attempt ended; one without an outcome was killed."""
    outcome = attempt.outcome()
    return outcome.reason if outcome else "killed"


class Acceptance:
    """The test, in the folder ``results``; ``say`` gets lines of progress."""

    def __init__(self, declaration: Declaration, results: Path, say: Say) -> None:
        self.reference = AcceptanceRun("undisturbed", declaration, results / "undisturbed")
        self.interrupted = AcceptanceRun("interrupted", declaration, results / "interrupted")
        self.say, self.deadline = say, time.monotonic() + SECONDS

    def run(self) -> Iterator[Diagnosis]:
        """Run both trainings, one after the other, and yield what they show; leave no job behind."""
        try:
            yield from self._train(self.reference)
            yield from self._train(self.interrupted, self._interrupt)
            yield self._same_numbers()
            yield from self._throughput()
        except NotDone as why:
            yield Diagnosis("acceptance", str(why), why.fix)
        except Unreachable as why:
            yield Diagnosis("acceptance", str(why), "harness doctor again, once Slurm answers")
        except UserError as why:
            yield Diagnosis("acceptance", why.what, f"change {why.where}" if why.where else why.next_command)
        finally:
            self._leave_nothing()

    def _train(self, run: AcceptanceRun, disturb: Callable[[AcceptanceRun], None] | None = None) -> Iterator[Diagnosis]:
        began = time.monotonic()
        run.submit()
        self.say(f"{run.name}: job {run.job} submitted")
        if disturb:
            disturb(run)
        self._wait(run, lambda: run.record.outcome() is not None)
        attempts = run.record.attempts()
        how = ", then ".join(ending(attempt) for attempt in attempts)
        found = f"job {run.job}, {len(attempts)} attempt{'s' if len(attempts) > 1 else ''} ({how})"
        found += f", {time.monotonic() - began:.0f} s"
        if disturb and len(attempts) < 2:  # more, where the cluster disturbed it too
            yield Diagnosis(run.name, f"{found}: it was not interrupted", "harness doctor --full again")
        else:
            yield Diagnosis(run.name, found)

    def _interrupt(self, run: AcceptanceRun) -> None:
        """Requeue the job once it has a checkpoint; where that is not allowed, cancel it and submit the cell again."""
        self._wait(run, lambda: any(attempt.checkpoint.exists() for attempt in run.record.attempts()))
        (first,) = run.record.attempts()
        job = run.job
        if run.declaration.cluster.requeue:
            try:
                run.scheduler.slurm.ask("scontrol", "requeue", job)
            except Unreachable as why:
                fix = "cluster.requeue=false: an interrupted cell then waits for the next harness sweep"
                raise NotDone(f"job {job} cannot be put back into the queue: {why}", fix) from None
            self.say(f"{run.name}: job {job} requeued after epoch {run.epoch()}")
            self._wait(run, lambda: len(run.record.attempts()) > 1 or run.record.outcome() is not None)
            return
        run.scheduler.slurm.cancel([job])
        self.say(f"{run.name}: job {job} cancelled after epoch {run.epoch()}")
        self._wait(run, lambda: first.outcome() is not None, may_be_over=True)
        run.submit()
        self.say(f"{run.name}: job {run.job} submitted to go on")

    def _wait(self, run: AcceptanceRun, until: Callable[[], bool], may_be_over: bool = False) -> None:
        """Wait until a condition holds.

        Raises:
            NotDone: the run ended in another way, or the time is up.
        """
        printed_at = polled_at = alive_at = time.monotonic()
        while not until():
            now = time.monotonic()
            if now - polled_at > ASK_SECONDS:
                poll_scheduler([run.scheduler], at_once=True)
                polled_at = now
            logs = f"what {run.record.path}/attempts/*/stderr.log says"
            if error := run.error():
                raise NotDone(f"{run.name}: {error}", logs)
            if not (why := run.over()):
                alive_at = now
            elif now - alive_at > SEEN_SECONDS:
                record_lost_outcomes(run.scheduler)
                alive_at = now
                if not may_be_over:
                    raise NotDone(f"{run.name}: {run.error() or why}", logs)
            if now > self.deadline:
                raise NotDone(
                    f"{run.name}: not done within {SECONDS / 60:.0f} minutes ({run.progress()})",
                    "harness doctor --full again when nodes are free, or cluster.partition=ANOTHER",
                )
            if now - printed_at > SAY_SECONDS:
                self.say(f"{run.name}: {run.progress()}")
                printed_at = now
            time.sleep(POLL_SECONDS)

    def _same_numbers(self) -> Diagnosis:
        reference, interrupted = (
            outcome.metrics for run in (self.reference, self.interrupted) if (outcome := run.record.outcome())
        )
        differences = {name: abs(value - interrupted[name]) for name, value in reference.items()}
        name = max(differences, key=lambda name: differences[name])
        if not any(differences.values()):
            return Diagnosis("same numbers", f"all {len(reference)} metrics to the last bit: {', '.join(reference)}")
        found = f"{name} differs by {differences[name]:.2g}: {reference[name]:.2f} and {interrupted[name]:.2f} %"
        if self.reference.declaration.cluster.device == "cuda" and differences[name] <= TOLERANCE:
            return Diagnosis("same numbers", f"{found}; GPUs add in varying order")
        fix = "cluster.constraint: nodes of one kind; if they are, please report this"
        return Diagnosis("same numbers", found, fix)

    def _throughput(self) -> Iterator[Diagnosis]:
        device = "GPU" if self.reference.declaration.cluster.device == "cuda" else "process"
        ranks = self.reference.task[1].world_size
        rates = [event.metrics.get("samples_per_second") for event in self.reference.record.events()]
        median = statistics.median([rate for rate in rates if rate is not None] or [0.0])
        found = f"{median / ranks:,.0f} samples/s per {device}, {median:,.0f} together ({ranks} on {self._nodes()})"
        yield Diagnosis("throughput", found)

    def _nodes(self) -> str:
        nodes = self.reference.task[1].nodes
        return f"{nodes} node{'s' if nodes > 1 else ''}"

    def _leave_nothing(self) -> None:
        for run in (self.reference, self.interrupted):
            if run.was_opened and run.record.outcome() is None and run.job:
                try:
                    run.scheduler.slurm.cancel([run.job])
                except (Unreachable, UserError) as why:
                    self.say(f"{run.name}: job {run.job} may still run ({why}); scancel {run.job}")
