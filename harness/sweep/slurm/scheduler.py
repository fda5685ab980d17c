"""A submitted sweep: its cells go to Slurm as job arrays, and no process has to stay.

Jobs read the sweep's ledger, and records say what became of cells. A later command asks Slurm once for all jobs
(``poll_scheduler``), and writes down how attempts ended that could not do so themselves
(``harness.sweep.slurm.lost_outcomes``).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from harness.environment.process import ProcessIdentity
from harness.environment.user import user_name
from harness.errors import UserError
from harness.store.record import Record
from harness.store.signs_of_life import file_system_time
from harness.store.submission import Allocation, Submission
from harness.store.sweeps.job_arrays import GONE, JobArray, JobArrays, JobStatus, Queue
from harness.store.sweeps.ledger import Ledger, Policy
from harness.sweep.declare.schema import ClusterConfig
from harness.sweep.expand.resources import Resources
from harness.sweep.run.scheduler import Job
from harness.sweep.run.supervisor import Task
from harness.sweep.slurm.commands import Profile, Slurm, Unreachable

#: The time between two queries: at first, and at most, while nothing changes.
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30.0, 180.0
#: How old a job array without an id must be before it is searched: its submitter may not be done yet.
SUBMITTING_SECONDS = 90.0
#: The largest job array in a dry run, which does not ask Slurm: its default of MaxArraySize.
USUAL_ARRAY = 1001
#: The largest number of cell ids in a job's comment.
MOST_NAMED = 40


@dataclass(frozen=True)
class SlurmScheduler:
    """The scheduler of a submitted sweep (see ``harness.sweep.run.scheduler``); the sweep's ledger keeps its profile.

    The jobs need no process that watches over them, and a cell that is interrupted requeues itself.
    """

    ledger: Ledger
    cluster: ClusterConfig

    @classmethod
    def open(cls, results: Path, name: str, policy: Policy, cluster: ClusterConfig, again: str) -> SlurmScheduler:
        """Open a new sweep whose cells are about to be submitted; no process watches over it."""
        facts = {"again": again, "cluster": asdict(cluster), "user": user_name()}
        ledger = Ledger.open(results, name, policy, **facts)
        ledger.close()
        return cls(ledger, cluster)

    @classmethod
    def of(cls, ledger: Ledger) -> SlurmScheduler:
        """Return the scheduler of a sweep that was submitted before.

        Where the ledger has lost the profile, jobs can still be asked about: only new ones need it.
        """
        return cls(ledger, ClusterConfig.from_json(ledger.facts().get("cluster", {})))

    @property
    def batches(self) -> JobArrays:
        """The job arrays that the sweep has submitted."""
        return JobArrays(self.ledger.path)

    @property
    def runs(self) -> Path:
        """The folder of all records."""
        return self.ledger.path.parent.parent / "runs"

    @property
    def slurm(self) -> Slurm:
        """Slurm's commands."""
        return Slurm(self._log)

    @property
    def profile(self) -> Profile:
        """The cluster's profile, which writes job scripts."""
        return Profile(self.cluster, (self.ledger.path / "jobs").absolute())

    def _log(self, line: str) -> None:
        with suppress(OSError), (self.ledger.path / "slurm.log").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%F %T')} {line}\n")

    def job(self, task: Task, resources: Resources) -> Job:
        """Return the job of a task on these resources."""
        allocation = Allocation(resources.nodes, resources.time or 0, self.cluster.grace, self.cluster.stage)
        return task.job(replace(task.submission, allocation=allocation, sweep=self.ledger.path.name))

    def scripts(self, jobs: Sequence[Job]) -> Iterator[str]:
        """Yield the batch scripts that ``submit`` would give to sbatch where job arrays have the usual limit."""
        for number, (resources, packs) in enumerate(arrays(jobs, self.cluster.cells_per_job, USUAL_ARRAY), 1):
            ids = [[job.record.name for job in pack] for pack in packs]
            batch = JobArray(number, f"{self.ledger.path.name}-{number}-XXXXXX", ids, 0.0)
            yield self.profile.script(batch.name, comment(batch), len(packs), resources)

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """Prepare the records and write the submissions into them, submit them as job arrays; return their tasks' ids.

        Slurm is asked for the largest array first: a sweep that it does not answer leaves no record. Cells that share a
        task have the same id.

        Raises:
            UserError: Slurm refuses a job array or does not answer; the arrays before it stay submitted.
        """
        task_ids: dict[Path, str] = {}
        try:
            for resources, packs in arrays(jobs, self.cluster.cells_per_job, self.slurm.most_array_tasks()):
                batch = self._submit_array(resources, packs)
                task_ids |= {job.record: batch.task_id(task) for task, pack in enumerate(packs) for job in pack}
        except Unreachable as why:
            raise UserError(
                f"{why}; {len(task_ids)} of {len(jobs)} cells are submitted",
                where="cluster",
                next_command="the same harness sweep again, once Slurm answers: nothing is submitted twice",
            ) from None
        return [task_ids[job.record] for job in jobs]

    def _submit_array(self, resources: Resources, packs: Sequence[Sequence[Job]]) -> JobArray:
        batches = self.batches
        batch = batches.add([[job.record.name for job in pack] for pack in packs])
        for job in (job for pack in packs for job in pack):
            job.prepare().submit(replace(job.submission, batch=batch.number))
        paths = [[job.record.absolute() for job in pack] for pack in packs]
        try:
            job_id = self.profile.submit(batch.name, comment(batch), paths, resources)
        except UserError as refusal:
            batches.write(replace(batch, failed=str(refusal)))
            raise
        self._log(f"sbatch: job {job_id}, {len(packs)} tasks")
        submitted = replace(batch, job=job_id)
        batches.write(submitted)
        return submitted

    def cancel(self, ids: Collection[str], at_once: bool = False) -> None:
        """Cancel these tasks; ``at_once``, running ones get no time to write a checkpoint.

        Raises:
            UserError: Slurm does not answer.
        """
        try:
            self.slurm.cancel(ids, at_once)
        except Unreachable as why:
            what = f"{why}; the cells are withdrawn, and their jobs will end as soon as they begin"
            raise UserError(what, where="cluster") from None

    def open_tasks(self, cells: Collection[str]) -> list[str]:
        """Return the ids of open tasks that contain only these cells.

        A task with other cells must go on; it skips the cells whose records say that they are withdrawn.
        """
        batches = self.batches
        return [
            batch.task_id(number)
            for batch in batches.all
            for number, task in enumerate(batch.tasks)
            if batch.job
            and set(task) <= set(cells)
            and all((status := batches.job_status(cell)) and not status.over for cell in task)
        ]


def arrays(jobs: Sequence[Job], cells_per_job: int, most: int) -> Iterator[tuple[Resources, list[list[Job]]]]:
    """Group cells by equal resources, and pack them into tasks and arrays of at most ``most`` tasks."""
    by_resources: dict[Resources, list[Job]] = {}
    for job in jobs:
        by_resources.setdefault(resources_of(job.submission), []).append(job)
    for resources, group in by_resources.items():
        packs = _chunks(group, cells_per_job)
        while array := list(islice(packs, most)):
            yield resources, array


def resources_of(submission: Submission) -> Resources:
    """Return the resources that Slurm is asked for."""
    allocation = submission.allocation
    assert allocation
    return Resources(submission.run.world_size // allocation.nodes, allocation.nodes, allocation.minutes)


def _chunks(jobs: Iterable[Job], size: int) -> Iterator[list[Job]]:
    rest = iter(jobs)
    while chunk := list(islice(rest, size)):
        yield chunk


def comment(batch: JobArray) -> str:
    """Return the comment of a job: its cells, in the order of its tasks."""
    ids = [cell_id for task in batch.tasks for cell_id in task]
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return f"harness {batch.name.rsplit('-', 2)[0]}: {' '.join(ids[:MOST_NAMED])}{more}"


def open_sweeps(results: Path, name: str = "*") -> list[SlurmScheduler]:
    """Return the submitted sweeps (of an experiment at a scale) that have open tasks, or outcomes still to record."""
    folders = {path.parent for path in (results / "sweeps").glob(f"{name}.*/batches") if path.is_dir()}
    return [SlurmScheduler.of(Ledger(folder)) for folder in sorted(folders) if _is_open(JobArrays(folder))]


def _is_open(batches: JobArrays) -> bool:
    return not batches.queue.settled or any(batches.open_cells())


def poll_scheduler(schedulers: Sequence[SlurmScheduler], at_once: bool = False) -> str:
    """Ask Slurm, in one query, about the open tasks of these sweeps, unless it was asked a short time ago.

    Returns why it could not be asked; the empty string if it was asked, or need not be.
    """
    if not schedulers:
        return ""
    now = file_system_time(schedulers[0].ledger.path.parent)  # the clocks of two login machines may differ
    due = [scheduler for scheduler in schedulers if at_once or _due(scheduler.batches, now)]
    if not due:
        return ""
    try:
        users = {scheduler.ledger.facts().get("user") or user_name() for scheduler in due}
        statuses, job_ids = due[0].slurm.queue(users)
        for scheduler in due:
            _find_lost_arrays(scheduler, job_ids, now)
            _store_job_states(scheduler, statuses, now)
    except (Unreachable, UserError, OSError) as why:  # a user who may only read the folder sees what is known
        return why.what if isinstance(why, UserError) else str(why)
    return ""


def _due(batches: JobArrays, now: float) -> bool:
    asked, pause = batches.queue.asked, batches.queue.pause
    return (now >= asked + pause or now < asked) and any(batches.open_cells())


def _find_lost_arrays(scheduler: SlurmScheduler, job_ids: Mapping[str, str], now: float) -> None:
    """Find the ids of job arrays whose submitter died before it wrote the id; ``job_ids`` has the queue's, by name."""
    batches = scheduler.batches
    for batch in batches.all:
        if batch.job or batch.failed or _being_submitted(scheduler, batch, now):
            continue
        job = job_ids.get(batch.name, "")
        if not job:
            with suppress(Unreachable):  # without accounting, only the queue is known
                job = scheduler.slurm.job_named(batch.name, batch.submitted)
        if not job:
            batches.write(replace(batch, failed="it never reached the queue"))
            continue
        paths = [[(scheduler.runs / cell_id).absolute() for cell_id in task] for task in batch.tasks]
        scheduler.profile.complete(job, paths, _resources_of_array(scheduler, batch))
        batches.write(replace(batch, job=job))


def _resources_of_array(scheduler: SlurmScheduler, batch: JobArray) -> Resources:
    """Return the resources that an array was submitted with, which all its cells share."""
    submission = Record(scheduler.runs / batch.tasks[0][0]).submission()
    if submission and submission.allocation:
        return resources_of(submission)
    profile = scheduler.cluster  # somebody has removed the record
    return Resources(profile.gpus, profile.nodes, profile.time)


def _being_submitted(scheduler: SlurmScheduler, batch: JobArray, now: float) -> bool:
    age = now - batch.submitted
    submitter = ProcessIdentity.from_json(scheduler.ledger.facts())
    return age < SUBMITTING_SECONDS or (age < 10 * SUBMITTING_SECONDS and submitter.exists())


def _store_job_states(scheduler: SlurmScheduler, queue: Mapping[str, JobStatus], now: float) -> None:
    """Write down the status of the sweep's tasks, from the queue or, for tasks that have left it, from accounting."""
    batches, before = scheduler.batches, scheduler.batches.queue
    over = {task: status for task, status in before.statuses.items() if status.over}
    submitted = {
        batch.task_id(task): batch.submitted for batch in batches.all if batch.job for task in range(len(batch.tasks))
    }
    present = {task: queue[task] for task in submitted if task in queue}
    # Tasks that were being submitted while Slurm answered cannot be in its answer.
    old = {task for task, when in submitted.items() if now - when > SUBMITTING_SECONDS}
    lost = old - over.keys() - queue.keys()
    past: dict[str, JobStatus] = {}
    if lost:
        with suppress(Unreachable):
            past = scheduler.slurm.past({task.partition("_")[0] for task in lost}, min(submitted.values()))
    statuses = {**over, **present, **{task: past.get(task, JobStatus(GONE)) for task in lost}}
    changed = statuses != before.statuses
    pause = PAUSE_SECONDS if changed else min(LONGEST_PAUSE_SECONDS, 1.5 * before.pause)
    batches.write_queue(Queue(now, max(pause, PAUSE_SECONDS), statuses))
