"""Ask a scheduler what became of submitted cells, for the verbs that show it or depend on it."""

from __future__ import annotations

import sys
from pathlib import Path


def refresh_job_states(results: Path, *, settling: bool) -> None:
    """Ask the scheduler about all open jobs, unless it was asked a moment ago.

    ``settling``: also write into records how attempts ended that could not write it themselves.
    """
    if not any((results / "sweeps").glob("*/batches")):  # the usual case: nothing was ever submitted from here
        return
    from harness.sweep.slurm.submission import open_sweeps, poll_scheduler, record_lost_outcomes

    clusters = open_sweeps(results)
    if why := poll_scheduler(clusters):
        print(f"note: the cluster's queue could not be read ({why}); shown is what is known", file=sys.stderr)
    if settling:
        for cluster in clusters:
            record_lost_outcomes(cluster)
