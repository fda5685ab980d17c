"""A monkey: kill -9 of the sweep, its workers, launchers and ranks at random moments, and the same command again.

    python tests/faults/monkey.py --kills 50 --seed 0

Some cells are one process and some are two ranks. Afterwards every cell has finished exactly once, with the numbers and
the weights of a calm sweep.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.store.record import Record

EXPERIMENT = """
defaults:
  - schema
  - dataset: digits
  - backbone: convnet
  - method: simclr
  - optimizer: sgd
  - evaluate: solo_learn
  - cluster: local
  - _self_
scale: demo
backbone:
  width: 4
batch_size: 64
budget:
  epochs: {epochs}
axes:
  loss: [infonce, dcl, dclw, flatnce, spectral]
  seed: {seeds}
resources:
  - where: loss=dcl
    gpus: 2
failures:
  retries: 3
  alike: 100
scales:
  demo: {{}}
"""


class Folder:
    """An experiment and its two sweeps: ``calm`` and ``wild``."""

    def __init__(self, path: Path, epochs: int, seeds: int) -> None:
        self.path = path
        (path / "wild.yaml").write_text(EXPERIMENT.format(epochs=epochs, seeds=seeds))

    def sweep(self, results: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "harness.cli.main", "sweep", "wild.yaml", "--yes", "--results", results]
        with (self.path / f"{results}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=self.path, stdout=log, stderr=log, start_new_session=True)

    def records(self, results: str) -> list[Record]:
        return [Record(path) for path in sorted((self.path / results / "runs").glob("*"))]

    def numbers(self, results: str) -> dict[str, Any]:
        """Of every cell: its metrics, its curve, and a hash of its weights."""
        return {record.cell_id: _numbers(record) for record in self.records(results)}

    def attempts(self, results: str) -> int:
        return sum(len(record.attempts()) for record in self.records(results))

    def processes(self) -> list[int]:
        """Everything that computes a cell of the wild sweep: by the records, and launchers and ranks by their names."""
        last = [attempt for record in self.records("wild") for attempt in record.attempts()[-1:]]
        alive = [attempt for attempt in last if not attempt.outcome() and attempt.alive()]
        holders = {pid for attempt in alive if (pid := attempt.provenance().process.pid)}
        commands = [pid for pid, command in _commands() if "harness.ssl wild/runs/" in command]
        return sorted({*holders, *commands})


def _numbers(record: Record) -> dict[str, Any]:
    outcome, weights = record.outcome(), record.encoder()
    timeless = [
        {name: value for name, value in event.metrics.items() if name != "samples_per_second"}
        for event in record.events()
    ]
    digest = hashlib.sha256(weights.read_bytes()).hexdigest() if weights else ""
    return {"metrics": outcome.metrics if outcome else None, "curve": timeless, "weights": digest}


def _commands() -> list[tuple[int, str]]:
    """Of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append((int(path.parent.name), path.read_bytes().replace(b"\0", b" ").decode(errors="replace")))
    return found


def torment(folder: Folder, kills: int, seed: int) -> Counter[str]:
    """Kill so often, starting the sweep again whenever it is gone; then let it finish. Whom it hit, and how often."""
    dice, hit = random.Random(seed), Counter[str]()
    sweep = folder.sweep("wild")
    while hit.total() < kills and sweep.poll() != 0:
        time.sleep(dice.uniform(0.1, 4.0))
        if sweep.poll() is not None:
            sweep = folder.sweep("wild")
            continue
        computing = folder.processes()
        if not computing:  # a sweep that is killed before it starts anything is no test
            continue
        kind, victim = dice.choice([("sweep", sweep.pid), *(("process", pid) for pid in computing)])
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            hit[kind] += 1
    while sweep.wait() != 0:
        sweep = folder.sweep("wild")
        hit["sweep again"] += 1
        assert hit["sweep again"] < 10, (folder.path / "wild.log").read_text()[-4000:]
    return hit


def check(folder: Folder) -> None:
    """Nothing lost, nothing doubled, every number as in the calm sweep."""
    calm, wild = folder.numbers("calm"), folder.numbers("wild")
    assert set(calm) == set(wild)
    for cell_id, numbers in calm.items():
        assert numbers["metrics"]
        for what, value in numbers.items():
            assert wild[cell_id][what] == value, f"{cell_id}: {what} differs"
    for record in folder.records("wild"):
        finished = [a.number for a in record.attempts() if (end := a.outcome()) and end.finished]
        published = record.outcome()
        assert published
        assert finished == [published.attempt], f"{record.cell_id} finished in attempts {finished}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Folder(Path(place), asked.epochs, asked.seeds)
        begun = time.monotonic()
        assert folder.sweep("calm").wait() == 0, (folder.path / "calm.log").read_text()[-4000:]
        calm = time.monotonic() - begun
        hit = torment(folder, asked.kills, asked.seed)
        check(folder)
        wild = time.monotonic() - begun - calm
        print(f"killed {dict(hit)}; {len(folder.records('wild'))} cells in {folder.attempts('wild')} attempts")
        print(f"calm {calm:.0f} s, wild {wild:.0f} s; every metric, curve and weight equal, every cell finished once")


if __name__ == "__main__":
    main()
