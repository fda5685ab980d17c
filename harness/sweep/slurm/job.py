"""The function that a Slurm job runs: it computes the job's records one after another, as one of the job's ranks.

submitit pickles a ``JobTask``, which holds only the paths of records. The submissions and the outcomes are in the
records; so a job that anybody requeues goes on where it stopped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.environment.job import STARTED, current_job
from harness.plugins.sources import user_code_has_run
from harness.store.record import Record

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

#: The causes of an interrupted attempt after which its job runs again.
WARNED = ("preempted", "time_limit")
#: How long a job that has requeued itself waits until the scheduler ends it.
END_SECONDS = 120


@dataclass(frozen=True)
class JobTask:
    """The records of one task of a job array."""

    records: tuple[str, ...]

    def __call__(self) -> None:
        """Compute the records.

        After a failed cell, or one whose loss is a user's own, the process may be in any state: the job's next cell is
        computed in a new process. Where the last cell has failed, the process exits with 1.
        """
        from submitit.helpers import TorchDistributedEnvironment

        from harness.ssl.worker import FAILED, NOT_FINISHED, attempt

        world = TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        todo = [record for path in self.records if not tried_here(record := Record(Path(path)))]
        for record in todo:
            code, reason = attempt(record, None)
            if reason:
                print(f"{record.cell_id}: {reason}", file=sys.stderr, flush=True)
            cause = _cause(record)
            if code == NOT_FINISHED and cause == "signal":  # the job is being ended
                raise SystemExit(NOT_FINISHED)
            if code == NOT_FINISHED and cause in WARNED:
                if world.rank > 0 or requeue():
                    time.sleep(END_SECONDS)  # the scheduler ends this job; if not, its first rank does
                raise SystemExit(NOT_FINISHED)
            if code == FAILED and record is todo[-1]:
                raise SystemExit(FAILED)
            if record is not todo[-1] and (code == FAILED or user_code_has_run()):
                os.environ["HARNESS_JOB_STARTED"] = str(STARTED)
                os.execv(sys.executable, [sys.executable, "-P", "-u", *sys.orig_argv[sys.orig_argv.index("-m") :]])

    def checkpoint(self) -> DelayedSubmission:
        """Return what submitit requeues if the warning signal comes before the first cell has begun: the same job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def tried_here(record: Record) -> bool:
    """Whether the cell has finished, or this start of the job has already made an attempt at it."""
    if record.state() == "finished":
        return True
    attempts = record.attempts()
    if not attempts or attempts[-1].outcome() is None:
        return False
    return attempts[-1].provenance().environment.scheduler == current_job()


def _cause(record: Record) -> str:
    """Return why this start's attempt at the cell ended; the empty string if it made none."""
    attempts = record.attempts()
    made_here = bool(attempts) and attempts[-1].provenance().environment.scheduler == current_job()
    outcome = attempts[-1].outcome() if made_here else None
    return outcome.cause if outcome else ""


def requeue() -> bool:
    """Put this job back into the queue with the same id; return whether the cluster allowed it.

    If it did not, the next sweep submits the cell again.
    """
    job = current_job()
    assert job
    command = ["scontrol", "requeue", job.job]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        print(f"{' '.join(command)}: {done.stderr.strip()}", file=sys.stderr)
    return done.returncode == 0
