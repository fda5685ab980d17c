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
    from harness.sweep.cluster import poll

    if refusal := poll(results, settling=settling):
        print(f"note: the cluster's queue could not be read ({refusal}); shown is what is known", file=sys.stderr)
