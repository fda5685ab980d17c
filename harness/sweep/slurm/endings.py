"""How the tries of a submitted sweep at a cell ended, for the rule of ``harness.sweep.run.retry``."""

from __future__ import annotations

from contextlib import suppress

from harness.errors import DamagedFile
from harness.store.record import Attempt, Record
from harness.store.sweeps.job_arrays import JobArrays
from harness.store.sweeps.ledger import Ledger
from harness.sweep.run.retry import Ending, EndKind, end_kind, runs_again


def is_submitted_again(record: Record, ledger: Ledger) -> bool:
    """Return whether the sweep submits a cell again that has not finished, as a sweep on one machine would."""
    return runs_again(endings(record, ledger), ledger.policy().retries)


def endings(record: Record, ledger: Ledger) -> list[Ending]:
    """Return how this sweep's tries at the cell ended, first to last."""
    arrays, step = JobArrays(ledger.path), -1
    tries = []
    for attempt in record.attempts():
        with suppress(DamagedFile):
            step = max([step, *(event.step for event in attempt.events())])
        if _is_of_sweep(attempt, ledger):
            tries.append(Ending(end_kind(attempt.outcome()), step))
    if not tries:  # jobs that were over before the cell began
        jobs = sum(record.cell_id in task for array in arrays.all for task in array.tasks)
        tries = [Ending(EndKind.KILLED, step)] * jobs
    status = arrays.job_status(record.cell_id)
    if record.withdrawn() or (status and status.state == "CANCELLED"):
        tries.append(Ending(EndKind.CANCELLED, step))
    return tries


def _is_of_sweep(attempt: Attempt, ledger: Ledger) -> bool:
    return attempt.provenance().submission.sweep == ledger.path.name
