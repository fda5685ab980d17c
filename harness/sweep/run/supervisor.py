"""A sweep in the foreground: start what is missing, try again what may succeed, and stop in order when asked to.

What the end of a job means for its cell is read from the cell's record:

==================  ==========================================================================================
finished            done
failed, error       tried again, ``policy.retries`` times
failed, otherwise   not tried again: it diverged, or needs more memory than there is
killed              tried again at no cost: a node, a preemption, somebody's ``kill``; unless it gets no further
runs elsewhere      waited for, and taken over when its holder is dead
cancelled           left alone
==================  ==========================================================================================
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM
from types import FrameType

from harness.cell import Cell
from harness.errors import DamagedFile
from harness.files import DAMAGE
from harness.store.record import Attempt, Record
from harness.store.signs_of_life import HEARTBEAT_SECONDS
from harness.store.submission import Submission
from harness.store.sweeps.ledger import Ledger
from harness.sweep.run.retry import KILLS, Ending, EndKind, failure_kind, last_step, runs_again
from harness.sweep.run.scheduler import Job, JobInfo, JobState, WatchedScheduler

POLL_SECONDS = 0.5
#: The time between two looks at a cell whose holder seems to be dead and is not.
HELD_SECONDS = 10.0
#: Submissions are written to disk: the first cells start while those of the others are still being written.
QUEUED_AT_ONCE = 20
#: How long cells may take to write their checkpoint after they were asked to stop.
STOP_SECONDS = 60.0
#: What files answer where a part of their record was removed, or replaced by something else.
NO_RECORD = (*DAMAGE, errno.ENOENT, errno.EEXIST)
#: What became of a cell if its sweep starts no more cells.
NOT_STARTED = "not started"


@dataclass(frozen=True)
class Task:
    """One cell to run: its record, its name for people, and how it is run."""

    record: Record
    cell: Cell
    name: str
    submission: Submission

    def job(self, submission: Submission) -> Job:
        """Return the job that trains the cell in this way."""
        return Job(self.record.path, self.cell, f"{submission.experiment} {self.name}", submission)


@dataclass
class TaskState:
    """A task of this sweep that is open or over.

    Attributes:
        job: the id of its job; None while another sweep computes the cell.
        attempts: how many attempts the record had before the present try.
        endings: how this sweep's tries ended, first to last.
        not_before: the monotonic time before which the cell is not looked at again.
        ended: what became of the task, in words for people; empty while it is open.
    """

    task: Task
    job: str | None = None
    attempts: int = 0
    endings: list[Ending] = field(default_factory=list)
    not_before: float = 0.0
    ended: str = ""
    finished: bool = False


class Stopped(Exception):
    """The sweep was interrupted; the message says what became of its running cells."""


#: A function that is called at every poll with the tasks that have just ended and those that run.
Report = Callable[[Sequence[TaskState], Sequence[TaskState]], None]


@dataclass
class Sweep:
    """The open cells of one sweep."""

    scheduler: WatchedScheduler
    ledger: Ledger
    report: Report
    open: dict[str, TaskState] = field(default_factory=dict)  # by job id
    elsewhere: list[TaskState] = field(default_factory=list)
    refusal: str = ""

    def __post_init__(self) -> None:
        self.retries = self.ledger.policy().retries
        self.memory_kills = out_of_memory_kills()

    def admit(self, watched: TaskState) -> None:
        """Take up a task: start it, or wait for it if it runs elsewhere."""
        try:
            if self.refusal:
                watched.ended = NOT_STARTED
            elif watched.task.record.state() == "running":
                self.wait_elsewhere(watched)
            else:
                self.start(watched)
        except (DamagedFile, OSError) as error:
            watched.ended = self.failed_by(error, watched.task.record)
        if watched.ended:
            self.report([watched], [])

    def start(self, watched: TaskState) -> None:
        """Write the submission into the record, then queue the job."""
        self.ledger.beat()  # fails where the results have been moved away: they are not begun anew in their old place
        job = watched.task.job(replace(watched.task.submission, sweep=self.ledger.path.name))
        record = job.prepare()
        watched.attempts = len(record.attempts())
        (watched.job,) = self.scheduler.submit([replace(job, submission=record.submit(job.submission))])
        self.open[watched.job] = watched

    def wait_elsewhere(self, watched: TaskState) -> None:
        """Wait for another sweep that computes the cell."""
        watched.job, watched.attempts = None, len(watched.task.record.attempts()) - 1
        self.elsewhere.append(watched)

    def poll_once(self, timeout: float) -> None:
        """Look once at everything that is open, for at most ``timeout`` seconds."""
        jobs = self.scheduler.status(list(self.open), timeout)
        ended = [(self.open.pop(job), info) for job, info in jobs.items() if info.state.over]
        now = time.monotonic()
        ready = [watched for watched in self.elsewhere if watched.not_before < now]
        free = [watched for watched in ready if watched.task.record.state() != "running"]
        self.elsewhere = [watched for watched in self.elsewhere if watched not in free]
        for watched, info in [*ended, *((watched, None) for watched in free)]:
            try:
                self.resolve(watched, info)
            except (DamagedFile, OSError) as error:  # since the cell began; the others go on
                watched.ended = self.failed_by(error, watched.task.record)
        if not self.refusal and any(not watched.finished for watched, _ in ended):
            self.refuse(self.ledger.stop_reason())
        running = [watched for job, watched in self.open.items() if job in jobs and jobs[job].state is JobState.RUNNING]
        closed = [watched for watched in [*(watched for watched, _ in ended), *free] if watched.ended]
        self.report(closed, [*running, *self.elsewhere])

    def resolve(self, watched: TaskState, info: JobInfo | None) -> None:
        """Decide what the end of a job means for its cell; ``info`` is None if another sweep computed the cell."""
        record = watched.task.record
        state, attempts = record.state(), record.attempts()[watched.attempts :]
        outcome = attempts[-1].outcome() if attempts else None
        if state == "finished":
            watched.ended, watched.finished = "finished", True
        elif state == "running":
            self.wait_elsewhere(watched)
        elif record.withdrawn() or (outcome and outcome.cause == "cancelled"):
            watched.ended = "cancelled"
        elif attempts and info and info.state is JobState.LOST:
            self.resolve_killed(watched, attempts[-1], info.reason)
        elif outcome and outcome.failed:
            self.resolve_failed(watched, outcome.cause, outcome.error)
        elif self.refusal or self.ledger.stop_reason():
            watched.ended = NOT_STARTED
        elif info and info.reason and not outcome:  # it could not begin, or wrote no outcome
            if attempts:
                attempts[-1].fail(info.reason)
            self.resolve_failed(watched, "error", info.reason)
        elif attempts and info:
            self.resolve_interrupted(watched)
        elif info is None:
            self.start(watched)
        else:  # its heartbeat seemed to stand still, and moved when it was watched
            watched.not_before = time.monotonic() + HELD_SECONDS
            self.wait_elsewhere(watched)

    def resolve_failed(self, watched: TaskState, cause: str, error: str) -> None:
        """Start a failed cell again, if the policy says so."""
        again = self.runs_again(watched, failure_kind(cause))
        self.ledger.failed(watched.task.record.cell_id, cause, error, final=not again)
        if again and not self.ledger.stop_reason():
            self.start(watched)
        else:
            watched.ended = f"FAILED: {error.splitlines()[0][:200] if error else cause}"

    def resolve_killed(self, watched: TaskState, attempt: Attempt, reason: str) -> None:
        """Start a killed cell again, unless the kernel killed it to free memory, or it gets no further."""
        kills_before, self.memory_kills = self.memory_kills, out_of_memory_kills()
        short_of_memory = self.memory_kills > kills_before
        if not short_of_memory and self.runs_again(watched, EndKind.KILLED):
            self.ledger.clear_failure(attempt.record.cell_id)
            self.start(watched)
            return
        cause = "out_of_memory" if short_of_memory else "killed"
        error = f"{reason} for lack of memory" if short_of_memory else f"{reason}, {KILLS} times at the same step"
        attempt.fail(error, cause)
        self.resolve_failed(watched, cause, error)

    def resolve_interrupted(self, watched: TaskState) -> None:
        """Start a cell again that somebody stopped at a checkpoint, unless it gets no further."""
        if self.runs_again(watched, EndKind.KILLED):
            self.start(watched)
        else:
            self.resolve_failed(watched, "killed", f"interrupted {KILLS} times at the same step")

    def runs_again(self, watched: TaskState, kind: EndKind) -> bool:
        """Note how the present try ended, and return whether the policy allows another one."""
        watched.endings.append(Ending(kind, last_step(watched.task.record)))
        return runs_again(watched.endings, self.retries)

    def failed_by(self, error: DamagedFile | OSError, record: Record) -> str:
        """Return that a cell has failed because of an error of its record: where, why, and what to do, in one line.

        Raises:
            OSError: the error is no matter of one cell: the disk is full, or the results have been moved away.
        """
        if isinstance(error, DamagedFile):
            return f"FAILED: {error.sentence}"
        why = f"FAILED: {error.filename}: {error.strerror}"
        if isinstance(error, PermissionError):
            return f"{why}; next: chmod -R u+rwX its record, or ask its owner"
        if error.errno not in NO_RECORD or not _is_within(error.filename, record.path) or not self.ledger.path.exists():
            raise error
        return f"{why}; next: harness fsck, and the same harness sweep again"

    def refuse(self, reason: str) -> None:
        """Start no more cells if there is a reason; those that run may end."""
        if reason:
            self.refusal = reason
            jobs = self.scheduler.status(list(self.open))
            self.scheduler.cancel([job for job, info in jobs.items() if info.state is JobState.PENDING])


def supervise(tasks: Sequence[Task], scheduler: WatchedScheduler, ledger: Ledger, report: Report) -> list[TaskState]:
    """Run all tasks, wait for those that another sweep computes, and return what became of each.

    Raises:
        Stopped: after Ctrl-C, SIGTERM or SIGHUP, once the running cells have stopped; after a second one, at once.
    """
    watched = [TaskState(task) for task in tasks]
    sweep = Sweep(scheduler, ledger, report)
    signals = Signals()
    try:
        beaten, waiting = 0.0, deque(watched)
        while waiting or sweep.open or sweep.elsewhere:
            if signals.count:
                raise Stopped(_stop(sweep, signals))
            if time.monotonic() - beaten > HEARTBEAT_SECONDS:
                ledger.beat()
                beaten = time.monotonic()
            for _ in range(min(QUEUED_AT_ONCE, len(waiting))):
                sweep.admit(waiting.popleft())
            sweep.poll_once(0.0 if waiting else POLL_SECONDS)
    except BaseException:
        scheduler.cancel(list(sweep.open))
        raise
    finally:
        ledger.close()
        signals.restore()
    return watched


class Signals:
    """A count of the signals that ask to stop. They are counted, not raised: a signal may come at any line.

    A shell starts background jobs with SIGINT ignored; all three are set, so that a sweep can be stopped anywhere.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before = {number: signal.signal(number, self._add) for number in (SIGINT, SIGTERM, SIGHUP)}

    def _add(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

    def restore(self) -> None:
        """Set the handlers that were set before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _stop(sweep: Sweep, signals: Signals) -> str:
    """Stop the running cells at a checkpoint, or at once after a second signal; return what became of them."""
    running = _running(sweep, list(sweep.open))
    asked = len(running)
    sweep.scheduler.cancel(list(sweep.open))
    if not asked:
        return "nothing was running"
    with suppress(OSError):  # the terminal may be closed
        print(f"\nstopping: {asked} running cells write their checkpoints; Ctrl-C again ends them now", flush=True)
    deadline = time.monotonic() + STOP_SECONDS
    while running and signals.count < 2 and time.monotonic() < deadline:
        running = _running(sweep, running, POLL_SECONDS)
    if not running:
        return "what ran has stopped, and what it did is in its checkpoints"
    if signals.count < 2:
        return f"{len(running)} of {asked} running cells have not stopped yet and will at their next step"
    sweep.scheduler.cancel(running, at_once=True)
    return "running cells were ended at once; they lose what they did since their last checkpoint"


def _is_within(filename: object, folder: Path) -> bool:
    """Whether this is the name of a folder, or of something in it."""
    return isinstance(filename, str | bytes) and Path(os.fsdecode(filename)).is_relative_to(folder)


def _running(sweep: Sweep, ids: Sequence[str], timeout: float = 0.0) -> list[str]:
    jobs = sweep.scheduler.status(ids, timeout)
    return [job for job, info in jobs.items() if info.state is JobState.RUNNING]


def out_of_memory_kills() -> int:
    """Return how often the kernel has killed a process for lack of memory since it booted."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
