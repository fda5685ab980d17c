"""A sweep on a cluster: submit what is missing as job arrays, and let go.

Nobody has to stay: jobs read the sweep's ledger, records say what became of cells, and whoever looks later asks the
scheduler once for all of them (``look``) and writes down how attempts ended that could not do so themselves
(``settle``).
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
from harness.sweep.run.supervisor import Task
from harness.sweep.slurm.commands import Profile, Slurm, Unreachable

#: Between two questions: at first, and at most, while nothing changes.
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30.0, 180.0
#: A batch without an id is not looked for while whoever submits it may still be doing so.
SUBMITTING_SECONDS = 90.0
#: How an attempt ended of which the scheduler says that, and not the record.
INTERRUPTED = {"TIMEOUT": "time_limit", "PREEMPTED": "preempted", "CANCELLED": "cancelled"}
#: What submitit says where its submitter has left it nothing to do.
NO_PICKLE = "could not find submitted jobs"
#: Cell ids in a job's comment.
MOST_NAMED = 40


@dataclass(frozen=True)
class Cluster:
    """Where a sweep's jobs go; ``cluster``: the declared profile, which the ledger keeps."""

    ledger: Ledger
    cluster: ClusterConfig

    @classmethod
    def open(cls, results: Path, name: str, policy: Policy, cluster: ClusterConfig, again: str) -> Cluster:
        """A new sweep, whose cells are about to be submitted; nobody watches over it: its jobs do not need that."""
        facts = {"again": again, "cluster": asdict(cluster), "user": getpass.getuser()}
        ledger = Ledger.open(results, name, policy, **facts)
        ledger.close()
        return cls(ledger, cluster)

    @classmethod
    def of(cls, ledger: Ledger) -> Cluster:
        """That of a sweep that was submitted before."""
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
        """Write the intents, then submit; return how many cells the scheduler has taken.

        Raises:
            UserError: the scheduler refuses a batch, or does not answer; what it has taken before stays.
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
        """Take tasks back that have none but these cells; of other tasks the cells' own intents say so.

        Raises:
            UserError: the scheduler does not answer.
        """
        batches = self.batches
        tasks = [
            batch.task_id(number)
            for batch in batches.all
            for number, task in enumerate(batch.tasks)
            if batch.job
            and set(task) <= set(cells)
            and all((said := batches.job_status(cell)) and not said.over for cell in task)
        ]
        try:
            self.slurm.cancel(tasks)
        except Unreachable as why:
            what = f"{why}; the cells are withdrawn, and their jobs will end as soon as they begin"
            raise UserError(what, where="cluster") from None

    def scripts(self, tasks: Sequence[tuple[Task, Resources]], most: int) -> Iterator[str]:
        """What ``submit`` would hand to sbatch."""
        for number, (given, packs) in enumerate(arrays(tasks, self.cluster.cells_per_job, most), 1):
            ids = [[task.record.cell_id for task in pack] for pack in packs]
            batch = JobArray(number, f"{self.ledger.path.name}-{number}-XXXXXX", ids, 0.0)
            yield self.profile.script(batch.name, comment(batch), len(packs), given)


def arrays(
    tasks: Sequence[tuple[Task, Resources]], cells_per_job: int, most: int
) -> Iterator[tuple[Resources, list[list[Task]]]]:
    """Cells by equal resources, packed into jobs, jobs into arrays of at most ``most`` tasks."""
    by_resources: dict[Resources, list[Task]] = {}
    for task, given in tasks:
        by_resources.setdefault(given, []).append(task)
    for given, some in by_resources.items():
        packs = _chunks(some, cells_per_job)
        while array := list(islice(packs, most)):
            yield given, array


def _chunks(tasks: Iterable[Task], size: int) -> Iterator[list[Task]]:
    rest = iter(tasks)
    while chunk := list(islice(rest, size)):
        yield chunk


def comment(batch: JobArray) -> str:
    """Which cells a job has, in the order of its tasks."""
    ids = [cell_id for task in batch.tasks for cell_id in task]
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return f"harness {batch.name.rsplit('-', 2)[0]}: {' '.join(ids[:MOST_NAMED])}{more}"


def open_sweeps(results: Path, name: str = "*") -> list[Cluster]:
    """The submitted sweeps (of an experiment at a scale) with tasks that may not be over, or are and not settled."""
    folders = {path.parent for path in (results / "sweeps").glob(f"{name}.*/batches")}
    found = [Ledger(folder) for folder in sorted(folders)]
    return [Cluster.of(ledger) for ledger in found if "cluster" in ledger.facts() and _is_open(JobArrays(ledger.path))]


def _is_open(batches: JobArrays) -> bool:
    return not batches.queue.settled or any(batches.open_cells())


def poll_scheduler(clusters: Sequence[Cluster], at_once: bool = False) -> str:
    """Ask the scheduler, in one question, what became of the open tasks of these sweeps, unless it was asked lately.

    Returns why it could not be asked; empty where it could or need not be.
    """
    now = time.time()
    due = [cluster for cluster in clusters if at_once or _due(cluster.batches, now)]
    if not due:
        return ""
    try:
        said, names = due[0].slurm.queue({cluster.ledger.facts().get("user") or getpass.getuser() for cluster in due})
        for cluster in due:
            _reconcile(cluster, names, now)
            _store_job_states(cluster, said, now)
    except (Unreachable, UserError, OSError) as why:  # somebody who only reads the folder is shown what is known
        return why.what if isinstance(why, UserError) else str(why)
    return ""


def _due(batches: JobArrays, now: float) -> bool:
    asked, pause = batches.queue.asked, batches.queue.pause
    return (now >= asked + pause or now < asked) and any(batches.open_cells())


def _reconcile(cluster: Cluster, names: Mapping[str, str], now: float) -> None:
    """Batches without an id: their submitter died in between. In the queue they have their name."""
    batches = cluster.batches
    for batch in batches.all:
        if batch.job or batch.failed or _being_submitted(cluster, batch, now):
            continue
        job = names.get(batch.name, "")
        if not job:
            with suppress(Unreachable):  # without accounting the queue is all there is
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


def _store_job_states(cluster: Cluster, said: Mapping[str, JobStatus], now: float) -> None:
    """Write down what was said of the sweep's tasks; of those that are no longer in the queue, what accounting says."""
    batches, before = cluster.batches, cluster.batches.queue
    known = {task: one for task, one in before.statuses.items() if one.over}
    submitted = {
        batch.task_id(task): batch.submitted for batch in batches.all if batch.job for task in range(len(batch.tasks))
    }
    heard = {task: said[task] for task in submitted if task in said}
    # What was being submitted while Slurm answered cannot be in its answer.
    old = {task for task, when in submitted.items() if now - when > SUBMITTING_SECONDS}
    lost = old - known.keys() - said.keys()
    past: dict[str, JobStatus] = {}
    if lost:
        with suppress(Unreachable):
            past = cluster.slurm.past({task.partition("_")[0] for task in lost}, min(submitted.values()))
    heard |= {task: past.get(task, JobStatus(GONE)) for task in lost}
    everything = {**known, **heard}
    changed = everything != before.statuses
    pause = PAUSE_SECONDS if changed else min(LONGEST_PAUSE_SECONDS, 1.5 * before.pause)
    batches.write_queue(Queue(now, max(pause, PAUSE_SECONDS), everything))


def record_lost_outcomes(cluster: Cluster) -> None:
    """Write into records how attempts ended that could not do so: their tasks are over, and they said nothing."""
    batches = cluster.batches
    if batches.queue.settled:
        return
    for batch in batches.all:
        for number, cells in enumerate(batch.tasks):
            said = batches.queue.statuses.get(batch.task_id(number)) if batch.job else None
            if said and said.over:
                _record_lost_outcomes_of_task(
                    [Record(cluster.runs / cell_id) for cell_id in cells], said, batch, batch.task_id(number), cluster
                )
    batches.write_queue(replace(batches.queue, settled=True))


def _record_lost_outcomes_of_task(
    records: Sequence[Record], said: JobStatus, batch: JobArray, task: str, cluster: Cluster
) -> None:
    """Of one task: the attempts that it left without a word; or, if it failed before any began, its cells."""
    attempts = [attempt for record in records for attempt in record.attempts() if _of_task(attempt, task)]
    failed = said.state in ("FAILED", "OUT_OF_MEMORY", "BOOT_FAIL")
    for attempt in attempts:
        # Of a job that only vanished nothing is known: it may be on a node that cannot be reached.
        unknown = said.state == GONE and attempt.alive(time.time())
        if unknown or attempt.superseded() or attempt.record.outcome() or attempt.outcome_now():
            continue
        if failed:
            _fail(attempt, said, cluster, task)
        else:
            attempt.end(Outcome("interrupted", cause=INTERRUPTED.get(said.state, "node_failure")))
    if failed and not attempts:
        for record in records:
            _fail_before_beginning(record, said, batch, task, cluster)


def _of_task(attempt: Attempt, task: str) -> bool:
    return bool((attempt.provenance().get("scheduler") or {}).get("task") == task)


def _fail_before_beginning(record: Record, said: JobStatus, batch: JobArray, task: str, cluster: Cluster) -> None:
    """An attempt for a job that ended before its cell began, if nobody has submitted or begun the cell since."""
    submission = record.submission() or Submission()
    mine = (submission.sweep, submission.batch) == (cluster.ledger.path.name, batch.number)
    words, _ = _last_error_line(cluster.profile.folder, task)
    orphaned = NO_PICKLE in words  # its submitter died before submitit had left what the job was to do
    if not mine or orphaned or submission.withdrawn or submission.attempts_before != len(record.attempts()):
        return
    try:
        scheduler = {"task": task, "job": "", "restart": 0}
        attempt = record.begin({"scheduler": scheduler, "submission": submission.to_json()})
    except Busy:
        return
    attempt.log("stderr").write_text(_error_output(cluster.profile.folder, task), encoding="utf-8")
    _fail(attempt, said, cluster, task)


def _fail(last: Attempt, said: JobStatus, cluster: Cluster, task: str) -> None:
    words, lacked_memory = _last_error_line(cluster.profile.folder, task)
    why = f"job {task} {said.state.lower().replace('_', ' ')} ({said.why})"
    if lacked_memory or said.state == "OUT_OF_MEMORY":
        error, cause = f"{why}: more memory than cluster.memory allows: {words}", "out_of_memory"
    else:
        error, cause = f"{why}: {words or 'no word on standard error'}", "error"
    last.fail(error, cause)
    if ended := last.outcome():
        cluster.ledger.failed(last.record.cell_id, ended.cause, ended.error, final=ended.cause != "error")


def _error_output(folder: Path, task: str) -> str:
    """What the job's ranks left on standard error."""
    paths = sorted(folder.glob(f"{task}_*_log.err"))
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)


def _last_error_line(folder: Path, task: str) -> tuple[str, bool]:
    """The last line that is the job's own, and whether one says that memory was lacking."""
    lines = [line for line in _error_output(folder, task).splitlines() if line.strip()]
    lacked = [line for line in lines if re.search(r"exceeded memory limit|oom.kill", line, re.IGNORECASE)]
    own = [line for line in lines if not line.startswith(("srun:", "slurmstepd"))]
    return (lacked or own or lines or [""])[-1][:500], bool(lacked)
