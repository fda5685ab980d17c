"""A sweep in the foreground: submit what is missing, watch until it has ended, stop in order when told to."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.record import Record
from harness.sweep.executors.base import Executor, Job, JobState
from harness.sweep.plan import Entry

POLL_SECONDS = 0.5
#: How long cells may take to write their checkpoint after they were asked to stop.
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Watched:
    """A cell in the hands of this sweep, or (``job`` is None) of an earlier one that left it running."""

    entry: Entry
    job: str | None

    def state(self, states: Mapping[str, JobState]) -> JobState:
        """Of its job, or where another sweep started it, as its record says."""
        if self.job:
            return states[self.job]
        return "running" if self.entry.record.state() == "running" else "ended"


def _job(record: Record, name: str, submission: Mapping[str, Any]) -> Job:
    wanted = {key: submission[key] for key in ("threads", "device", "world_size")}
    return Job(record.path, f"{name} {record.cell_id}", **wanted)


class Stopped(Exception):
    """The sweep was interrupted; the message says what became of its running cells."""


def supervise(
    entries: Sequence[Entry],
    executor: Executor,
    submission: Mapping[str, Any],
    name: str,
    report: Callable[[Mapping[str, JobState], Sequence[Watched]], None],
) -> list[Watched]:
    """Run every cell that is missing or failed, wait for those that run already, and return all that were watched.

    SIGTERM stops like Ctrl-C.

    ``report`` is called at every poll with the jobs' states.

    Raises:
        Stopped: after Ctrl-C, once the running cells have stopped.
    """
    watched = []
    for entry in entries:
        if entry.state == "running":
            watched.append(Watched(entry, None))
        elif entry.state in ("missing", "failed"):
            record = Record.prepare(entry.record.path.parent, entry.cell)
            record.submit({**submission, "submitted": time.time()})
            watched.append(Watched(entry, executor.submit(_job(record, name, submission))))
    ids = [item.job for item in watched if item.job]
    # A shell starts background jobs with SIGINT ignored; set both, so that a sweep can be stopped wherever it runs.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        while True:
            states = executor.poll(ids)
            report(states, watched)
            if all(item.state(states) == "ended" for item in watched):
                return watched
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        executor.cancel(ids)
        deadline = time.monotonic() + STOP_SECONDS
        while (running := list(executor.poll(ids).values()).count("running")) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        left = f"{running} cells have not stopped yet and will at their next step"
        raise Stopped(left if running else "running cells have written their checkpoints") from None
