"""What a scheduler's job does: compute its records one after another, as one of the job's ranks.

submitit pickles a ``Cells``, which holds paths of records and nothing else. What the job is told stands in the records,
and what becomes of it too; so a job that is requeued, by anybody, goes on where it stopped.
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
from harness.store.record import Record

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

#: An interrupted attempt's cause after which its job is to run again.
WARNED = ("preempted", "time_limit")
#: How long a job that has put itself back into the queue waits for its end.
END_SECONDS = 120


@dataclass(frozen=True)
class JobTask:
    """The records of one task of a batch."""

    records: tuple[str, ...]

    def __call__(self) -> None:
        """Exits with 1 after a failure; several cells in one job go on in a new process, whatever state this is in."""
        from submitit.helpers import TorchDistributedEnvironment

        from harness.ssl.worker import FAILED, NOT_FINISHED, attempt

        world = TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        todo = [record for path in self.records if not tried_here(record := Record(Path(path)))]
        for record in todo:
            code, said = attempt(record, None)
            if said:
                print(f"{record.cell_id}: {said}", file=sys.stderr, flush=True)
            cause = _cause(record)
            if code == NOT_FINISHED and cause == "signal":  # the job is being ended
                raise SystemExit(NOT_FINISHED)
            if code == NOT_FINISHED and cause in WARNED:
                if world.rank > 0 or requeue():
                    time.sleep(END_SECONDS)  # the scheduler ends this job; the first rank ends it where it does not
                raise SystemExit(NOT_FINISHED)
            if code == FAILED and record is todo[-1]:
                raise SystemExit(FAILED)
            if code == FAILED:
                os.environ["HARNESS_JOB_STARTED"] = str(STARTED)
                os.execv(sys.executable, [sys.executable, "-u", *sys.orig_argv[sys.orig_argv.index("-m") :]])

    def checkpoint(self) -> DelayedSubmission:
        """For a warning that comes before the first cell has begun: submitit requeues the job as it is."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def tried_here(record: Record) -> bool:
    """Whether this start of the job has had its attempt at the cell, or somebody has finished it."""
    if record.outcome():
        return True
    attempts = record.attempts()
    if not attempts or attempts[-1].outcome() is None:
        return False
    return attempts[-1].provenance().get("scheduler") == current_job()


def _cause(record: Record) -> str:
    """Why this start's attempt at the cell ended; empty where it had none."""
    attempts = record.attempts()
    mine = bool(attempts) and attempts[-1].provenance().get("scheduler") == current_job()
    return str((attempts[-1].outcome() or {}).get("cause", "")) if mine else ""


def requeue() -> bool:
    """Back into the queue with the same id, if the cluster allows it; else the next sweep submits the cell anew."""
    command = ["scontrol", "requeue", current_job()["job"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        print(f"{' '.join(command)}: {done.stderr.strip()}", file=sys.stderr)
    return done.returncode == 0
