"""How long ``harness status`` and ``harness report`` take over many finished records.

``python tests/benchmarks/records_scale.py [CELLS]`` makes them in a temporary folder (nothing is trained; every record
has the files that a trained one has), and prints the seconds of each verb without and with what the index remembers.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from harness.catalog import DATASETS
from harness.cell import Cell, Dataset, Loss
from harness.evaluation import Evaluation
from harness.manifest import Claim, Expected, Manifest
from harness.record import process_identity

AXES = {
    "loss.name": ["infonce", "dcl", "flatnce", "eqco", "dclw"],
    "batch_size": [32, 64, 128, 256, 512],
    "loss.temperature": [0.07, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.5],
    "epochs": [10, 100],
}
EPOCHS = 10
PROVENANCE = {
    **process_identity(), "started": 0.0, "revision": "0" * 40, "dirty": False, "sources": "0" * 12, "pid": 1,
    "versions": {"harness": "0", "python": "3.11", "torch": "2.6", "torchvision": "0.21", "numpy": "2"},
    "hardware": "a processor", "threads": 1, "scheduler_id": "",
}  # fmt: skip


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1))


def finished(runs: Path, cell: Cell) -> None:
    """A record as training leaves it."""
    folder = runs / cell.cell_id
    attempt = folder / "attempts" / "1"
    attempt.mkdir(parents=True)
    accuracy = 40 + hash(cell.cell_id) % 1000 / 50
    metrics = {"test_knn": accuracy, "test_linear": accuracy + 1, "init_knn": 30.0, "init_linear": 31.0}
    submission = {
        "experiment": "scale",
        "scale": "demo",
        "threads": 1,
        "device": "cpu",
        "evaluation": asdict(Evaluation()),
    }
    write(folder / "cell.json", asdict(cell))
    write(folder / "submission.json", {**submission, "sweep": "scale.demo.1", "attempts_before": 0, "submitted": 0.0})
    write(attempt / "provenance.json", {**PROVENANCE, "submission": submission})
    epochs = [
        {"loss": 5.0, "samples_per_second": 900.0, "q_mean": 0.4, "q_05": 0.1, "q_95": 0.9, "negatives_ess": 120.0,
         "positive_similarity": 0.6, "negative_similarity": 0.1, "alignment": 0.7, "uniformity": -2.5,
         "effective_rank": 40.0, "gradient_norm": 1.0, "val_knn": accuracy * epoch / EPOCHS}
        for epoch in range(EPOCHS)
    ]  # fmt: skip
    lines = [{"time": 0.0, "step": 100 * n, "epoch": n, "metrics": metrics} for n, metrics in enumerate(epochs)]
    (attempt / "events.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    outcome = {
        "attempt": 1, "state": "finished", "metrics": metrics, "evaluation": asdict(Evaluation()), "steps": 1000,
        "peak_lr": 0.1, "dropped": 13, "world_size": 1, "train_seconds": 50.0, "seconds": 60.0,
    }  # fmt: skip
    write(attempt / "outcome.json", outcome)
    os.link(attempt / "outcome.json", folder / "outcome.json")


def sweep(results: Path, count: int) -> None:
    """A manifest of so many cells, and their records."""
    seeds = list(range(-(-count // len(list(itertools.product(*AXES.values()))))))
    axes = {**AXES, "seed": seeds}
    points = list(itertools.islice(itertools.product(*axes.values()), count))
    cells = [
        Cell(loss=Loss(name, temperature), dataset=Dataset("digits"), batch_size=size, epochs=epochs, seed=seed)
        for name, size, temperature, epochs, seed in points
    ]
    claim = Claim("dcl-robust", "DCL loses less accuracy.", "nowhere", "smaller_drop", "dcl", "infonce")
    expected = [
        Expected(cell.cell_id, dict(zip(axes, point, strict=True))) for cell, point in zip(cells, points, strict=True)
    ]
    Manifest(
        "scale", "demo", "Many records", "How long does it take?", "", True, DATASETS["digits"].label, axes, expected,
        [claim], asdict(Evaluation()), asdict(cells[0]), [], "0" * 40,
    ).write(results)  # fmt: skip
    for cell in cells:
        finished(results / "runs", cell)


def seconds(*arguments: str, cwd: Path) -> str:
    """On the clock, and of the processor: others may use the machine."""
    started, before = time.monotonic(), os.times()
    command = [sys.executable, "-m", "harness.cli.main", *arguments]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cwd / "cache")}
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return f"{time.monotonic() - started:.1f} s ({busy:.1f} s of processor)"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        sweep(Path(folder) / "results", count)
        time.sleep(3)  # what changed just now is not remembered
        for arguments in (["status"], ["report", "scale.demo"], ["status", "loss=dcl state=failed,finished"]):
            cold = seconds(*arguments, cwd=Path(folder))
            warm = seconds(*arguments, cwd=Path(folder))
            print(f"{count} records, harness {' '.join(arguments)}: {cold}, again {warm}", flush=True)


if __name__ == "__main__":
    main()
