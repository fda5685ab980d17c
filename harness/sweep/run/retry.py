"""Whether a sweep runs a cell again that has not finished: one rule for this machine and for a cluster.

===================  ===================================================================================
the last try         run again
===================  ===================================================================================
finished, cancelled  no
error                yes, ``retries`` times
fatal                no: it diverged, or needs more memory than there is
killed               yes, at no cost: a node, a preemption, somebody's ``kill``; unless it gets no further
===================  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from harness.store.outcome import Outcome
from harness.store.record import Record

#: A cell that was killed this many times at the same step is not run again.
KILLS = 5


class EndKind(Enum):
    """How a try at a cell ended."""

    FINISHED = "finished"
    ERROR = "error"
    FATAL = "fatal"
    KILLED = "killed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Ending:
    """The end of one try; ``step`` is the last step that the cell had logged by then, -1 before its first."""

    kind: EndKind
    step: int = -1


def runs_again(endings: Sequence[Ending], retries: int) -> bool:
    """Return whether a sweep runs the cell again after its tries so far, first to last."""
    if not endings:
        return True
    last = endings[-1]
    if last.kind is EndKind.ERROR:
        return sum(ending.kind is EndKind.ERROR for ending in endings) <= retries
    if last.kind is EndKind.KILLED:
        return endings.count(last) < KILLS
    return False


def end_kind(outcome: Outcome | None) -> EndKind:
    """Return how an attempt with this outcome ended; one without an outcome was killed."""
    if outcome is None:
        return EndKind.KILLED
    if outcome.failed:
        return failure_kind(outcome.cause)
    if outcome.finished:
        return EndKind.FINISHED
    return EndKind.CANCELLED if outcome.cause == "cancelled" else EndKind.KILLED


def failure_kind(cause: str) -> EndKind:
    """Return whether a failure with this cause may succeed the next time (ERROR), or not (FATAL)."""
    return EndKind.ERROR if cause == "error" else EndKind.FATAL


def last_step(record: Record) -> int:
    """Return the last step that any attempt at the cell has logged; -1 if there is none."""
    return max((event.step for event in record.events()), default=-1)
