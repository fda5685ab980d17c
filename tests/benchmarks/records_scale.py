"""How long ``status``, ``report`` and a ``sweep`` with nothing to do take over many finished records.

``python tests/benchmarks/records_scale.py [CELLS]`` makes them in a temporary folder (nothing is trained; every record
has the files that a trained one has), and prints the seconds of each verb without and with what the index remembers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.cell import Cell
from harness.cli.shared.load_experiment import load
from harness.environment.process import ProcessIdentity
from harness.files import write_json
from harness.store.record import Attempt, Record
from harness.sweep.tracking.sync_state import digest, remember_complete, sync_state
from harness.sweep.tracking.tracking_uri import default_uri

EPOCHS = 10
PROVENANCE = {
    **vars(ProcessIdentity.current()),
    "started": 0.0, "revision": "0" * 40, "dirty": False, "sources": "0" * 12, "pid": 1,
    "versions": {"harness": "0", "python": "3.11", "torch": "2.6", "torchvision": "0.21", "numpy": "2"},
    "hardware": "a processor", "threads": 1, "scheduler_id": "",
}  # fmt: skip


def finished(runs: Path, cell: Cell, evaluation: Mapping[str, Any]) -> None:
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
        "evaluation": evaluation,
    }
    write_json(folder / "cell.json", asdict(cell), checksum=False)
    write_json(
        folder / "submission.json", {**submission, "sweep": "scale.demo.1", "attempts_before": 0, "submitted": 0.0}
    )
    write_json(attempt / "provenance.json", {**PROVENANCE, "submission": submission})
    epochs = [
        {"loss": 5.0, "samples_per_second": 900.0, "q_mean": 0.4, "q_05": 0.1, "q_95": 0.9, "negatives_ess": 120.0,
         "positive_similarity": 0.6, "negative_similarity": 0.1, "alignment": 0.7, "uniformity": -2.5,
         "effective_rank": 40.0, "gradient_norm": 1.0, "val_knn": accuracy * epoch / EPOCHS}
        for epoch in range(EPOCHS)
    ]  # fmt: skip
    lines = [{"time": 0.0, "step": 100 * n, "epoch": n, "metrics": metrics} for n, metrics in enumerate(epochs)]
    (attempt / "events.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (attempt / "encoder.safetensors").write_bytes(bytes(1000))
    files = {name: str(checksum) for name, checksum in Attempt(Record(folder), 1).checksums().items()}
    outcome = {
        "attempt": 1, "state": "finished", "metrics": metrics, "evaluation": evaluation, "steps": 1000,
        "peak_lr": 0.1, "dropped": 13, "world_size": 1, "train_seconds": 50.0, "seconds": 60.0, "files": files,
    }  # fmt: skip
    write_json(attempt / "outcome.json", outcome)
    os.link(attempt / "outcome.json", folder / "outcome.json")


EXPERIMENT = """
defaults: [schema, {dataset: digits}, {backbone: convnet}, {method: simclr}, {optimizer: sgd}, {evaluate: solo_learn},
           {cluster: local}, _self_]
title: Many records
scale: demo
axes:
  loss: [infonce, dcl, flatnce, eqco, dclw]
  batch_size: [32, 64, 128, 256, 512]
  temperature: [0.07, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.5]
  epochs: [10, 100]
  seed: SEEDS
claims:
  - {name: dcl-robust, says: DCL loses less., source: nowhere, measure: drop,
     arms: [loss=dcl, loss=infonce], over: batch_size}
scales: {demo: {}}
"""


def sweep(folder: Path, count: int) -> None:
    """An experiment of about so many cells, its manifest, and their records."""
    file, results = folder / "scale.yaml", folder / "results"
    file.write_text(EXPERIMENT.replace("SEEDS", str(-(-count // 500))))
    declared = load(str(file), [], results)
    declared.manifest.write(results)
    for entry in declared.plan.entries:
        finished(results / "runs", entry.cell, vars(declared.manifest.evaluation))
    # As if MLflow had everything: to write 10,000 runs into it takes a quarter of an hour once.
    uri = default_uri(results)
    (results / "mlflow.db").touch()
    remember_complete(results, declared.manifest, uri, digest(sync_state(results, declared.manifest)))


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
        sweep(Path(folder), count)
        time.sleep(3)  # what changed just now is not remembered
        verbs = (
            ["status"],
            ["report", "scale.demo"],
            ["status", "loss=dcl state=failed,finished"],
            ["sweep", "scale.yaml"],
        )
        for arguments in verbs:
            cold = seconds(*arguments, cwd=Path(folder))
            warm = seconds(*arguments, cwd=Path(folder))
            print(f"{count} records, harness {' '.join(arguments)}: {cold}, again {warm}", flush=True)


if __name__ == "__main__":
    main()
