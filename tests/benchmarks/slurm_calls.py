"""How often a sweep of 200 cells that somebody watches asks Slurm: ``python -m tests.benchmarks.slurm_calls [CELLS]``.

On the development cluster (slurm/dev-cluster up; SLURM_CONF). ``harness sweep --wait`` stays, and ``harness status`` is
asked every ten seconds besides; every call stands in the sweep's slurm.log.
"""

from __future__ import annotations

import collections
import sys
import tempfile
import time
from pathlib import Path

from tests.support.slurm_sweeps import Folder


def main() -> None:
    cells = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as path:
        folder = Folder(Path(path) / "shared", Path(path) / "cache")
        began = time.monotonic()
        words = [f"axes.seed={cells // 4}", "cluster.throttle=4", "cluster.cells_per_job=1"]
        with folder.waiting(*words) as sweep:
            while sweep.poll() is None:
                time.sleep(10)
                folder.harness("status")
        hours = (time.monotonic() - began) / 3600
        lines = [line for log in folder.results.glob("sweeps/*/slurm.log") for line in log.read_text().splitlines()]
        counts = collections.Counter(line.split()[2].rstrip(":") for line in lines)
        finished = sum(bool(record.outcome()) for record in folder.records())
        print(f"{finished} of {cells} cells finished in {hours * 60:.1f} minutes")
        for command, count in counts.items():
            print(f"{command:9} {count:4} calls, {count / hours:.0f} an hour")


if __name__ == "__main__":
    main()
