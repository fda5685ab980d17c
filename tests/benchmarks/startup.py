"""Where the seconds before anything happens go: ``python -m tests.benchmarks.startup [--profile]``.

Medians of seven of verbs that only look, over finished records (made as in records_scale.py), and of what a cell costs
a worker beside its training and evaluation. ``--profile``: also what the verbs import, and what a cell calls, most.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.cell import Backbone, Cell, Head
from harness.ssl.attempt import run_cell
from harness.ssl.measure.throughput_workers import CellSupply, start_seconds
from harness.ssl.train import Trainer
from tests.benchmarks.records_scale import sweep

TIMES = 7
VERBS = (["--help"], ["status"], ["status", "--help"], ["losses"])


def of_verb(words: list[str], folder: Path) -> list[float]:
    command = [sys.executable, "-m", "harness.cli.main", *words]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    found = []
    for _ in range(TIMES + 1):
        begun = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - begun)
    return found[1:]  # the first reads the disk, and fills the index of records


def print_imports(words: list[str], folder: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "harness.cli.main", *words]
    said = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stderr
    lines = [line.split("|") for line in said.splitlines() if line.startswith("import time:") and "us" not in line]
    for _, cumulative, name in sorted(lines, key=lambda line: -int(line[1]))[:15]:
        print(f"  {int(cumulative) / 1000:7.1f} ms  {name.strip()}")


def print_calls() -> None:
    """Of the first and of the third cell of this process, until training begins."""
    with tempfile.TemporaryDirectory() as folder:
        cells = CellSupply(Path(folder), Cell(backbone=Backbone("convnet", 16), head=Head(64, 64)), None)
        train = Trainer.train
        for number in range(3):
            profile = cProfile.Profile()
            Trainer.train = lambda run, profile=profile: (profile.disable(), train(run))[1]
            record = cells.next(1)
            profile.enable()
            run_cell(record)
            if number != 1:
                print(f"cell {number + 1} of a process, until it trains:")
                pstats.Stats(profile).sort_stats("cumtime").print_stats(12)
        Trainer.train = train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sweep(folder, asked.records)
        time.sleep(3)  # what changed just now is not remembered
        for words in VERBS:
            print(f"harness {' '.join(words):14} {statistics.median(of_verb(words, folder)):.2f} s", flush=True)
            if asked.profile:
                print_imports(words, folder)
    warm, cold = start_seconds(warm=TIMES, cold=TIMES)
    print(f"a cell, beside its training and evaluation, in a worker that has had one {statistics.median(warm):.3f} s")
    print(f"in one that has just started {statistics.median(cold):.2f} s")
    if asked.profile:
        print_calls()


if __name__ == "__main__":
    main()
