"""How long reading many finished records takes, without and with what the index remembers, here and in other checkouts.

``python -m tests.benchmarks.records_read [--records N] [--rounds N] [CHECKOUT ...]`` makes the records of every
checkout in the format that it writes, and prints the median seconds of the processor, and the ratio of this checkout's
to each other's. The checkouts take turns. Each reading is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]

MAKE = """
import os, sys
os.fsync = lambda descriptor: None  # no power cut is waited for
from pathlib import Path
from harness.cell import Cell
from harness.evaluation import Evaluation
from tests.benchmarks.records_scale import finished
for seed in range(int(sys.argv[2])):
    finished(Path(sys.argv[1]), Cell(seed=seed, epochs=10), vars(Evaluation()))
"""
READ = """
import json, sys, time
from pathlib import Path
from harness.store.index import Index
begun = time.process_time()
index = Index(Path(sys.argv[1]))
states = [index[cell_id].state for cell_id in index.cell_ids()]
seconds = time.process_time() - begun
index.remember()
assert set(states) == {"finished"}, set(states)
print(json.dumps(seconds))
"""


def run(code: str, checkout: Path, folder: Path, *arguments: str) -> str:
    """Run the code on this checkout's package; what its index remembers lies in the folder."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", code, str(folder / "runs"), *arguments]
    return subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True, text=True).stdout


def read(checkout: Path, folder: Path) -> tuple[float, float]:
    """Return the seconds of a first reading, and of a second one."""
    for file in (folder / "cache").rglob("*.json"):
        file.unlink()
    first, second = (float(json.loads(run(READ, checkout, folder))) for _ in range(2))
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("checkouts", nargs="*", type=Path)
    chosen = parser.parse_args()
    checkouts = [HERE, *(path.resolve() for path in chosen.checkouts)]
    with tempfile.TemporaryDirectory() as place:
        folders = {checkout: Path(place) / str(number) for number, checkout in enumerate(checkouts)}
        for checkout, folder in folders.items():
            folder.mkdir()
            run(MAKE, checkout, folder, str(chosen.records))
        time.sleep(3)  # what changed just now is not remembered
        rounds = [
            {checkout: read(checkout, folder) for checkout, folder in folders.items()} for _ in range(chosen.rounds + 1)
        ]
    for number, title in enumerate(("first", "again")):
        seconds = {checkout: [times[checkout][number] for times in rounds[1:]] for checkout in checkouts}
        for checkout in checkouts:
            ratio = statistics.median(mine / its for mine, its in zip(seconds[HERE], seconds[checkout], strict=True))
            shown = f"{chosen.records} records, {title}: {statistics.median(seconds[checkout]):.2f} s in {checkout}"
            print(shown + ("" if checkout == HERE else f" (here it takes {ratio:.2f} x as long)"), flush=True)


if __name__ == "__main__":
    main()
