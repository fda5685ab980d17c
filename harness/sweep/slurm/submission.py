"""A submitted sweep: its cells go to Slurm as job arrays, and no process has to stay.

Jobs read the sweep's ledger, and records say what became of cells. A later command asks Slurm once for all jobs
(``poll_scheduler``), and writes down how attempts ended that could not do so themselves (``record_lost_outcomes``).
"""

from __future__ import annotations

import getpass
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from harness.environment.process import process_exists
from harness.errors import UserError
from harness.store.job_arrays import GONE, JobArray, JobArrays, JobStatus, Queue
from harness.store.ledger import Ledger, Policy
from harness.store.outcome import Outcome
from harness.store.record import Attempt, Busy, Record
from harness.store.submission import SlurmAllocation, Submission
from harness.sweep.declare.schema import ClusterConfig
from harness.sweep.expand.resources import Resources
from harness.sweep.run.retry import EndKind, failure_kind
from harness.sweep.run.supervisor import Task
from harness.sweep.slurm.commands import Profile, Slurm, Unreachable

#: The time between two queries: at first, and at most, while nothing changes.
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30.0, 180.0
#: How old a job array without an id must be before it is searched: its submitter may not be done yet.
SUBMITTING_SECONDS = 90.0
#: The cause of an interrupted attempt without an outcome, by the state of its job.
INTERRUPTED = {"TIMEOUT": "time_limit", "PREEMPTED": "preempted", "CANCELLED": "cancelled"}
#: submitit's message in a job whose submitter died before it wrote the job's task.
NO_PICKLE = "could not find submitted jobs"
#: The largest number of cell ids in a job's comment.
MOST_NAMED = 40


@dataclass(frozen=True)
class Cluster:
    """The cluster that a sweep's jobs go to; the ledger keeps its profile."""

    ledger: Ledger
    cluster: ClusterConfig

    @classmethod
    def open(cls, results: Path, name: str, policy: Policy, cluster: ClusterConfig, again: str) -> Cluster:
        """Open a new sweep whose cells are about to be submitted; no process watches over it."""
        facts = {"again": again, "cluster": asdict(cluster), "user": getpass.getuser()}
        ledger = Ledger.open(results, name, policy, **facts)
        ledger.close()
        return cls(ledger, cluster)

    @classmethod
    def of(cls, ledger: Ledger) -> Cluster:
        """Return the cluster of a sweep that was submitted before."""
        return cls(ledger, ClusterConfig.from_json(ledger.facts()["cluster"]))

    @property
    def batches(self) -> JobArrays:
        return JobArrays(self.ledger.path)

    @property
    def runs(self) -> Path:
        return self.ledger.path.parent.parent / "runs"

    @property
    def slurm(self) -> Slurm:
        return Slurm(self._log)

    @property
    def profile(self) -> Profile:
        return Profile(self.cluster, (self.ledger.path / "jobs").absolute())

    def _log(self, line: str) -> None:
        with suppress(OSError), (self.ledger.path / "slurm.log").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%F %T')} {line}\n")

    def submit(self, tasks: Sequence[tuple[Task, Resources]]) -> int:
        """Write the submissions into the records, then submit; return how many cells Slurm has accepted.

        Raises:
            UserError: Slurm refuses a job array or does not answer; the arrays before it stay submitted.
        """
        slurm, taken = self.slurm, 0
        try:
            most = slurm.most_array_tasks()
            for given, packs in arrays(tasks, self.cluster.cells_per_job, most):
                self._submit(given, packs)
                taken += sum(map(len, packs))
        except Unreachable as why:
            raise UserError(
                f"{why}; {taken} of {len(tasks)} cells are submitted",
                where="cluster",
                next_command="the same harness sweep again, once Slurm answers: nothing is submitted twice",
            ) from None
        return taken

    def _submit(self, given: Resources, packs: Sequence[Sequence[Task]]) -> None:
        batches = self.batches
        batch = batches.add([[task.record.cell_id for task in pack] for pack in packs])
        for task in (task for pack in packs for task in pack):
            record = Record.prepare(task.record.path.parent, task.cell)
            slurm = SlurmAllocation(given.nodes, given.time or 0, self.cluster.grace, self.cluster.stage)
            submission = replace(task.submission, slurm=slurm, sweep=self.ledger.path.name, batch=batch.number)
            record.submit(submission)
        paths = [[task.record.path.absolute() for task in pack] for pack in packs]
        try:
            job = self.profile.submit(batch.name, comment(batch), paths, given)
        except UserError as refusal:
            batches.write(replace(batch, failed=str(refusal)))
            raise
        self._log(f"sbatch: job {job}, {len(packs)} tasks")
        batches.write(replace(batch, job=job))

    def cancel(self, cells: Collection[str]) -> None:
        """Cancel the tasks that contain only these cells.

        A task with other cells goes on; it skips these cells, since their records say that they are withdrawn.

        Raises:
            UserError: Slurm does not answer.
        """
        batches = self.batches
        tasks = [
            batch.task_id(number)
            for batch in batches.all
            for number, task in enumerate(batch.tasks)
            if batch.job
            and set(task) <= set(cells)
            and all((status := batches.job_status(cell)) and not status.over for cell in task)
        ]
        try:
            self.slurm.cancel(tasks)
        except Unreachable as why:
            what = f"{why}; the cells are withdrawn, and their jobs will end as soon as they begin"
            raise UserError(what, where="cluster") from None

    def scripts(self, tasks: Sequence[tuple[Task, Resources]], most: int) -> Iterator[str]:
        """Yield the batch scripts that ``submit`` would give to sbatch."""
        for number, (given, packs) in enumerate(arrays(tasks, self.cluster.cells_per_job, most), 1):
            ids = [[task.record.cell_id for task in pack] for pack in packs]
            batch = JobArray(number, f"{self.ledger.path.name}-{number}-XXXXXX", ids, 0.0)
            yield self.profile.script(batch.name, comment(batch), len(packs), given)


def arrays(
    tasks: Sequence[tuple[Task, Resources]], cells_per_job: int, most: int
) -> Iterator[tuple[Resources, list[list[Task]]]]:
    """Group cells by equal resources, and pack them into jobs and arrays of at most ``most`` tasks."""
    by_resources: dict[Resources, list[Task]] = {}
    for task, given in tasks:
        by_resources.setdefault(given, []).append(task)
    for given, group in by_resources.items():
        packs = _chunks(group, cells_per_job)
        while array := list(islice(packs, most)):
            yield given, array


def _chunks(tasks: Iterable[Task], size: int) -> Iterator[list[Task]]:
    rest = iter(tasks)
    while chunk := list(islice(rest, size)):
        yield chunk


def comment(batch: JobArray) -> str:
    """Return the comment of a job: its cells, in the order of its tasks."""
    ids = [cell_id for task in batch.tasks for cell_id in task]
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return f"harness {batch.name.rsplit('-', 2)[0]}: {' '.join(ids[:MOST_NAMED])}{more}"


def open_sweeps(results: Path, name: str = "*") -> list[Cluster]:
    """Return the submitted sweeps (of an experiment at a scale) that have open tasks, or outcomes still to record."""
    folders = {path.parent for path in (results / "sweeps").glob(f"{name}.*/batches")}
    ledgers = [Ledger(folder) for folder in sorted(folders)]
    return [
        Cluster.of(ledger) for ledger in ledgers if "cluster" in ledger.facts() and _is_open(JobArrays(ledger.path))
    ]


def _is_open(batches: JobArrays) -> bool:
    return not batches.queue.settled or any(batches.open_cells())


def poll_scheduler(clusters: Sequence[Cluster], at_once: bool = False) -> str:
    """Ask Slurm, in one query, about the open tasks of these sweeps, unless it was asked a short time ago.

    Returns why it could not be asked; the empty string if it was asked, or need not be.
    """
    now = time.time()
    due = [cluster for cluster in clusters if at_once or _due(cluster.batches, now)]
    if not due:
        return ""
    try:
        users = {cluster.ledger.facts().get("user") or getpass.getuser() for cluster in due}
        statuses, job_ids = due[0].slurm.queue(users)
        for cluster in due:
            _find_lost_arrays(cluster, job_ids, now)
            _store_job_states(cluster, statuses, now)
    except (Unreachable, UserError, OSError) as why:  # a user who may only read the folder sees what is known
        return why.what if isinstance(why, UserError) else str(why)
    return ""


def _due(batches: JobArrays, now: float) -> bool:
    asked, pause = batches.queue.asked, batches.queue.pause
    return (now >= asked + pause or now < asked) and any(batches.open_cells())


def _find_lost_arrays(cluster: Cluster, job_ids: Mapping[str, str], now: float) -> None:
    """Find the ids of job arrays whose submitter died before it wrote the id; ``job_ids`` has the queue's, by name."""
    batches = cluster.batches
    for batch in batches.all:
        if batch.job or batch.failed or _being_submitted(cluster, batch, now):
            continue
        job = job_ids.get(batch.name, "")
        if not job:
            with suppress(Unreachable):  # without accounting, only the queue is known
                job = cluster.slurm.job_named(batch.name, batch.submitted)
        if not job:
            batches.write(replace(batch, failed="it never reached the queue"))
            continue
        paths = [[(cluster.runs / cell_id).absolute() for cell_id in task] for task in batch.tasks]
        cluster.profile.complete(job, paths)
        batches.write(replace(batch, job=job))


def _being_submitted(cluster: Cluster, batch: JobArray, now: float) -> bool:
    age = now - batch.submitted
    return age < SUBMITTING_SECONDS or (age < 10 * SUBMITTING_SECONDS and process_exists(cluster.ledger.facts()))


def _store_job_states(cluster: Cluster, queue: Mapping[str, JobStatus], now: float) -> None:
    """Write down the status of the sweep's tasks, from the queue or, for tasks that have left it, from accounting."""
    batches, before = cluster.batches, cluster.batches.queue
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
            past = cluster.slurm.past({task.partition("_")[0] for task in lost}, min(submitted.values()))
    statuses = {**over, **present, **{task: past.get(task, JobStatus(GONE)) for task in lost}}
    changed = statuses != before.statuses
    pause = PAUSE_SECONDS if changed else min(LONGEST_PAUSE_SECONDS, 1.5 * before.pause)
    batches.write_queue(Queue(now, max(pause, PAUSE_SECONDS), statuses))


def record_lost_outcomes(cluster: Cluster) -> None:
    """Write into the records how attempts ended whose tasks are over and that could not write it themselves."""
    batches = cluster.batches
    if batches.queue.settled:
        return
    for batch in batches.all:
        for number, cells in enumerate(batch.tasks):
            task = batch.task_id(number)
            status = batches.queue.statuses.get(task) if batch.job else None
            if status and status.over:
                records = [Record(cluster.runs / cell_id) for cell_id in cells]
                _record_lost_outcomes_of_task(records, status, batch, task, cluster)
    batches.write_queue(replace(batches.queue, settled=True))


def _record_lost_outcomes_of_task(
    records: Sequence[Record], status: JobStatus, batch: JobArray, task: str, cluster: Cluster
) -> None:
    """End the attempts that one task left without an outcome; if it failed before any began, fail its cells."""
    attempts = [attempt for record in records for attempt in record.attempts() if _of_task(attempt, task)]
    failed = status.state in ("FAILED", "OUT_OF_MEMORY", "BOOT_FAIL")
    for attempt in attempts:
        # A job that Slurm does not know any more may still run, on a node that cannot be reached.
        unknown = status.state == GONE and attempt.alive(time.time())
        if unknown or attempt.superseded() or attempt.record.outcome() or attempt.outcome_now():
            continue
        if failed:
            _fail(attempt, status, cluster, task)
        else:
            attempt.end(Outcome("interrupted", cause=INTERRUPTED.get(status.state, "node_failure")))
    if failed and not attempts:
        for record in records:
            _fail_before_beginning(record, status, batch, task, cluster)


def _of_task(attempt: Attempt, task: str) -> bool:
    return bool((attempt.provenance().get("scheduler") or {}).get("task") == task)


def _fail_before_beginning(record: Record, status: JobStatus, batch: JobArray, task: str, cluster: Cluster) -> None:
    """Add a failed attempt for a job that ended before its cell began, unless the cell was submitted or begun since."""
    submission = record.submission() or Submission()
    is_of_task = (submission.sweep, submission.batch) == (cluster.ledger.path.name, batch.number)
    error, _ = _last_error_line(cluster.profile.folder, task)
    orphaned = NO_PICKLE in error
    if not is_of_task or orphaned or submission.withdrawn or submission.attempts_before != len(record.attempts()):
        return
    try:
        scheduler = {"task": task, "job": "", "restart": 0}
        attempt = record.begin({"scheduler": scheduler, "submission": submission.to_json()})
    except Busy:
        return
    attempt.log("stderr").write_text(_error_output(cluster.profile.folder, task), encoding="utf-8")
    _fail(attempt, status, cluster, task)


def _fail(attempt: Attempt, status: JobStatus, cluster: Cluster, task: str) -> None:
    """End an attempt as failed, with the state of its job and the last line on its standard error."""
    line, short_of_memory = _last_error_line(cluster.profile.folder, task)
    why = f"job {task} {status.state.lower().replace('_', ' ')} ({status.why})"
    if short_of_memory or status.state == "OUT_OF_MEMORY":
        error, cause = f"{why}: more memory than cluster.memory allows: {line}", "out_of_memory"
    else:
        error, cause = f"{why}: {line or 'nothing on standard error'}", "error"
    attempt.fail(error, cause)
    if outcome := attempt.outcome():
        final = failure_kind(outcome.cause) is EndKind.FATAL
        cluster.ledger.failed(attempt.record.cell_id, outcome.cause, outcome.error, final=final)


def _error_output(folder: Path, task: str) -> str:
    """Return what the job's ranks wrote to standard error."""
    paths = sorted(folder.glob(f"{task}_*_log.err"))
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)


def _last_error_line(folder: Path, task: str) -> tuple[str, bool]:
    """Return the last line of the job itself on standard error, and whether a line says that memory was too small."""
    lines = [line for line in _error_output(folder, task).splitlines() if line.strip()]
    memory = [line for line in lines if re.search(r"exceeded memory limit|oom.kill", line, re.IGNORECASE)]
    of_job = [line for line in lines if not line.startswith(("srun:", "slurmstepd"))]
    return (memory or of_job or lines or [""])[-1][:500], bool(memory)
