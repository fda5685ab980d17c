"""A sweep in the foreground: start what is missing, try again what may succeed, stop in order when told to.

What a cell's end means is read from its record:

==================  ==========================================================================================
finished            done
failed, error       tried again, ``policy.retries`` times
failed, otherwise   not tried again: it diverged, or needs more memory than there is
killed              tried again for nothing: a node, a preemption, somebody's ``kill``; unless it gets nowhere
runs elsewhere      waited for, and taken over when its holder is dead
cancelled           left alone
==================  ==========================================================================================
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM
from types import FrameType

from harness.cell import Cell
from harness.store.ledger import Ledger
from harness.store.record import HEARTBEAT_SECONDS, Attempt, Record
from harness.store.submission import Submission
from harness.sweep.run.executor import KILLED, Executor, Job, JobState

POLL_SECONDS = 0.5
#: Between two looks at a cell that is held by somebody who seems to be dead and is not.
HELD_SECONDS = 10.0
#: Intents are written to disk: the first cells start while those of the others are still being written.
QUEUED_AT_ONCE = 20
#: How long cells may take to write their checkpoint after they were asked to stop.
STOP_SECONDS = 60.0
#: What became of a cell whose sweep starts no more.
NOT_STARTED = "not started"
#: A cell that was killed so often without having got any further is not tried again.
KILLS = 5


@dataclass(frozen=True)
class Task:
    """One cell to run: ``name`` for people, ``submission`` how it is run."""

    record: Record
    cell: Cell
    name: str
    submission: Submission

    def job(self, submission: Submission) -> Job:
        return Job(self.record.path, f"{submission.experiment} {self.name}", submission)


@dataclass
class TaskState:
    """A task in the hands of this sweep; ``job`` is None while another sweep computes it.

    ``attempts``: how many there were before this sweep's present try. ``kills``: in a row, at the same ``progress``.
    ``not_before``: when (monotonic) it is looked at again.
    ``ended``: what became of it, in a sentence for people, once that is settled ("" while it is open).
    """

    task: Task
    job: str | None = None
    attempts: int = 0
    errors: int = 0
    kills: int = 0
    progress: int = -1
    not_before: float = 0.0
    ended: str = ""
    finished: bool = False


class Stopped(Exception):
    """The sweep was interrupted; the message says what became of its running cells."""


#: Called at every poll with what has just ended and what runs.
Report = Callable[[Sequence[TaskState], Sequence[TaskState]], None]


@dataclass
class Sweep:
    """The open cells of one sweep."""

    executor: Executor
    ledger: Ledger
    report: Report
    open: dict[str, TaskState] = field(default_factory=dict)  # by job
    elsewhere: list[TaskState] = field(default_factory=list)
    refusal: str = ""

    def __post_init__(self) -> None:
        self.retries = self.ledger.policy().retries
        self.memory_kills = out_of_memory_kills()

    def admit(self, watched: TaskState) -> None:
        if self.refusal:
            watched.ended = NOT_STARTED
            self.report([watched], [])
        elif watched.task.record.state() == "running":
            self.wait_elsewhere(watched)
        else:
            self.start(watched)

    def start(self, watched: TaskState) -> None:
        """Write the intent, then queue."""
        task = watched.task
        record = Record.prepare(task.record.path.parent, task.cell)
        watched.attempts = len(record.attempts())
        submission = record.submit(replace(task.submission, sweep=self.ledger.path.name))
        watched.job = self.executor.submit(task.job(submission))
        self.open[watched.job] = watched

    def wait_elsewhere(self, watched: TaskState) -> None:
        """Somebody else computes it: wait for them."""
        watched.job, watched.attempts = None, len(watched.task.record.attempts()) - 1
        self.elsewhere.append(watched)

    def poll_once(self) -> None:
        """Look once at everything that is open."""
        states = self.executor.poll(list(self.open))
        ended = [self.open.pop(job) for job, state in states.items() if state == "ended"]
        now = time.monotonic()
        ready = [watched for watched in self.elsewhere if watched.not_before < now]
        lost = [watched for watched in ready if watched.task.record.state() != "running"]
        self.elsewhere = [watched for watched in self.elsewhere if watched not in lost]
        for watched in [*ended, *lost]:
            self.resolve(watched)
        if not self.refusal and any(not watched.finished for watched in ended):
            self.refuse(self.ledger.stop_reason())
        running = [watched for job, watched in self.open.items() if states.get(job) == "running"]
        self.report([watched for watched in [*ended, *lost] if watched.ended], [*running, *self.elsewhere])

    def resolve(self, watched: TaskState) -> None:
        """Decide what the end of a job means for its cell."""
        record, words = watched.task.record, self.executor.exit_reason(watched.job) if watched.job else ""
        state, attempts = record.state(), record.attempts()[watched.attempts :]
        outcome = attempts[-1].outcome() if attempts else None
        if state == "finished":
            watched.ended, watched.finished = "finished", True
        elif state == "running":
            self.wait_elsewhere(watched)
        elif record.withdrawn() or (outcome and outcome.cause == "cancelled"):
            watched.ended = "cancelled"
        elif attempts and words.startswith(KILLED):
            self.resolve_killed(watched, attempts[-1], words)
        elif outcome and outcome.failed:
            self.resolve_failed(watched, outcome.cause, outcome.error)
        elif self.refusal or self.ledger.stop_reason():
            watched.ended = NOT_STARTED
        elif words and not outcome:  # it could not begin, or ended without a word in its record
            if attempts:
                attempts[-1].fail(words)
            self.resolve_failed(watched, "error", words)
        elif attempts or watched.job is None:
            self.start(watched)
        else:  # somebody holds the cell whom this machine's clock takes for dead: the file system's decides
            watched.not_before = time.monotonic() + HELD_SECONDS
            self.wait_elsewhere(watched)

    def resolve_failed(self, watched: TaskState, cause: str, error: str) -> None:
        watched.errors += 1
        again = cause == "error" and watched.errors <= self.retries
        self.ledger.failed(watched.task.record.cell_id, cause, error, final=not again)
        if again and not self.ledger.stop_reason():
            self.start(watched)
        else:
            watched.ended = f"FAILED: {error.splitlines()[0][:200] if error else cause}"

    def resolve_killed(self, watched: TaskState, attempt: Attempt, words: str) -> None:
        """A process that was killed leaves no word of its own; its kernel may know why."""
        lacked_memory, self.memory_kills = out_of_memory_kills() > self.memory_kills, out_of_memory_kills()
        progress = max((event["step"] for event in attempt.record.events()), default=-1)
        watched.kills = watched.kills + 1 if progress == watched.progress else 1
        watched.progress = progress
        if "SIGKILL" in words and not lacked_memory and watched.kills < KILLS:
            self.ledger.clear_failure(attempt.record.cell_id)
            self.start(watched)
            return
        cause = "out_of_memory" if lacked_memory else "killed" if "SIGKILL" in words else "error"
        error = f"{words} for lack of memory" if lacked_memory else words
        attempt.fail(error, cause)
        self.resolve_failed(watched, cause, error)

    def refuse(self, reason: str) -> None:
        """Start no more cells; those that run may end."""
        if reason:
            self.refusal = reason
            states = self.executor.poll(list(self.open))
            self.executor.cancel([job for job, state in states.items() if state == "queued"])


def supervise(tasks: Sequence[Task], executor: Executor, ledger: Ledger, report: Report) -> list[TaskState]:
    """Run every task and wait for those that another sweep computes; return what became of each.

    Raises:
        Stopped: after Ctrl-C, SIGTERM or SIGHUP, once the running cells have stopped; after a second one, at once.
    """
    watched = [TaskState(task) for task in tasks]
    sweep = Sweep(executor, ledger, report)
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
            sweep.poll_once()
            executor.wait(0 if waiting else POLL_SECONDS)
    except BaseException:
        executor.cancel(list(sweep.open))
        raise
    finally:
        ledger.close()
        signals.restore()
    return watched


class Signals:
    """How often somebody has asked to stop. Counted, not raised: a signal may come at any line.

    A shell starts background jobs with SIGINT ignored; all are set, so that a sweep can be stopped wherever it runs.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before = {number: signal.signal(number, self._asked) for number in (SIGINT, SIGTERM, SIGHUP)}

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _stop(sweep: Sweep, signals: Signals) -> str:
    """No new cells; running ones write their checkpoint; after a second signal everything ends now."""
    asked = _running(sweep)
    sweep.executor.cancel(list(sweep.open))
    if not asked:
        return "nothing was running"
    with suppress(OSError):  # the terminal may be gone
        print(f"\nstopping: {asked} running cells write their checkpoints; Ctrl-C again ends them now", flush=True)
    deadline = time.monotonic() + STOP_SECONDS
    while (running := _running(sweep)) and signals.count < 2 and time.monotonic() < deadline:
        sweep.executor.wait(POLL_SECONDS)
    if not running:
        return "what ran has stopped, and what it did is in its checkpoints"
    if signals.count < 2:
        return f"{running} of {asked} running cells have not stopped yet and will at their next step"
    sweep.executor.kill()
    return "running cells were ended at once; they lose what they did since their last checkpoint"


def _running(sweep: Sweep) -> int:
    states: Mapping[str, JobState] = sweep.executor.poll(list(sweep.open))
    return list(states.values()).count("running")


def out_of_memory_kills() -> int:
    """How often the kernel has killed a process for lack of memory since it booted."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
