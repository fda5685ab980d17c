"""What the mirror costs training: the same cells without one, beside a hung server's, beside sqlite's, in turn.

``python -m tests.benchmarks.mirror_cost [ROUNDS] [EPOCHS]``, on a machine that does nothing else. Two cells at a time
on a thread each; printed are medians over rounds of the ratio of their training seconds to those without a mirror.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from harness.cli.shared.load_experiment import load
from harness.evaluation import Evaluation
from harness.store.record import Record
from harness.store.submission import RunConfig, Submission
from harness.sweep.tracking import mirror_process
from harness.sweep.tracking.mirror_process import MirrorProcess
from harness.sweep.tracking.tracking_uri import default_uri
from tests.support.tiny import TINY

VARIANTS = ("none", "hung", "sqlite")


def measure(variant: str, epochs: int) -> tuple[float, float]:
    """Training seconds of the two cells together, and the mirror's CPU seconds from their start to their end."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as hung, ExitStack() as stack:
        tiny, results = Path(folder) / "tiny.yaml", Path(folder) / "results"
        tiny.write_text(TINY)
        declared = load(
            str(tiny),
            ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0,1]", f"axes.epochs=[{epochs}]"],
            results,
        )
        manifest = declared.manifest.write(results)
        uri = default_uri(results) if variant == "sqlite" else f"http://127.0.0.1:{hung.getsockname()[1]}"
        process = None if variant == "none" else stack.enter_context(MirrorProcess(results, manifest, uri))
        records = [Record.prepare(results / "runs", entry.cell) for entry in declared.plan.entries]
        evaluation = asdict(declared.declaration.evaluation)
        for record in records:
            record.submit(Submission(RunConfig(evaluation=Evaluation(**evaluation))))
        before = cpu_seconds(process.pid) if process else 0.0
        cells = [
            subprocess.Popen(
                [sys.executable, "-m", "harness.ssl", str(record.path)], env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
            for record in records
        ]
        assert all(cell.wait() == 0 for cell in cells)
        cpu = cpu_seconds(process.pid) - before if process else 0.0
        return sum(outcome.train_seconds for record in records if (outcome := record.outcome())), cpu


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    rounds, epochs = (int(word) for word in (*sys.argv[1:], "7", "150")[:2])
    mirror_process.EMBEDDED_SECONDS = mirror_process.SERVER_SECONDS = 1.0  # only training is measured
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    shares: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for turn in range(rounds):
        for variant in VARIANTS[turn % 3 :] + VARIANTS[: turn % 3]:
            trained, cpu = measure(variant, epochs)
            seconds[variant].append(trained)
            shares[variant].append(cpu / trained)
            print(
                f"{turn + 1}/{rounds} {variant}: {trained:.2f} s trained, {cpu:.2f} s of CPU for the mirror", flush=True
            )
    for variant in VARIANTS[1:]:
        ratios = [one / none for one, none in zip(seconds[variant], seconds["none"], strict=True)]
        print(
            f"{variant}: median ratio {statistics.median(ratios):.4f} (lowest {min(ratios):.4f}, highest "
            f"{max(ratios):.4f}), median CPU share of the mirror {statistics.median(shares[variant]):.4f}"
        )


if __name__ == "__main__":
    main()
