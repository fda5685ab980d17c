"""``python -m tests.benchmarks.micro_batch``: peak memory and time of batch 4096 in micro-batches of 256.

Beside it batch 256 and, where the machine holds it, the whole 4096. Every case is a process of its own, in turn,
whose peak is the kernel's (VmHWM), less what a process takes that has built the net and its images. ResNet-18 of width
16, bf16, 32x32 pixels, DCL; two steps.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 3
CASES = {"256": (256, None), "4096 in micro-batches of 256": (4096, 256), "4096 whole": (4096, None)}


def step(batch_size: int, micro_batch: int | None) -> dict[str, float]:
    import torch

    from harness.cell import Backbone, Cell, Dataset, Head, Loss
    from harness.ssl.losses.validation import skip_value_checks
    from harness.ssl.measure.step_cost import trial
    from harness.ssl.runtime.malloc import keep_freed_memory

    torch.set_num_threads(2)
    keep_freed_memory()
    cell = Cell(
        loss=Loss("dcl"),
        dataset=Dataset("cifar10", 32),
        backbone=Backbone("resnet18", 16),
        head=Head(512, 128),
        batch_size=batch_size,
        bn_groups=batch_size // 256,
        precision="bf16",
    )
    tried = trial(cell, 3, torch.device("cpu"), micro_batch)
    images = tried.images(batch_size)
    before, began = peak(), time.perf_counter()
    with skip_value_checks():
        for _ in range(2):
            tried.step(images)
    return {"bytes": peak() - before, "sample": (time.perf_counter() - began) / 2 / batch_size}


def peak() -> int:
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def main() -> None:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    for _ in range(ROUNDS):
        for name, case in CASES.items():
            command = [sys.executable, "-m", "tests.benchmarks.micro_batch", json.dumps(case)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                found[name].append(json.loads(done.stdout))
    one = {key: statistics.median([run[key] for run in found["256"]]) for key in ("bytes", "sample")}
    for name, runs in found.items():
        if not runs:
            print(f"{name:30} does not fit this machine")
            continue
        size, sample = (statistics.median([run[key] for run in runs]) for key in ("bytes", "sample"))
        print(
            f"{name:30} {size / 2**20:7,.0f} MiB, {size / one['bytes']:5.2f} x; "
            f"{1 / sample:6,.0f} samples/s, {one['sample'] / sample:4.2f} x"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(step(*json.loads(sys.argv[1]))))
    else:
        main()
