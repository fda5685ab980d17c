"""How long 100,000 cells take to expand, to plan and to write down, and how much memory that needs.

``python tests/benchmarks/plan_scale.py``: two shapes, many seeds of few arms, and as many arms as cells; each in a
process of its own. What Hydra needs to compose the file is said apart.
"""

from __future__ import annotations

import itertools
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.datasets import DatasetFiles
from harness.store.index import Index
from harness.sweep.declare.compose import declare
from harness.sweep.expand import grid
from harness.sweep.plan.plan import make_plan

EXPERIMENT = """
defaults: [schema, {dataset: cifar10}, {backbone: resnet18}, {method: simclr}, {optimizer: sgd},
           {evaluate: lightly}, {cluster: local}, _self_]
scale: large
scales: {large: {}}
"""
SHAPES = {
    "10 arms of 10,000 seeds": "axes: {loss: [infonce, dcl], batch_size: [32, 64, 128, 256, 512], seed: 10000}",
    "100,000 arms of one seed": """axes:
  loss: [infonce, dcl, dclw, eqco]
  batch_size: [32, 64, 128, 256, 512]
  temperature: [0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1]
  lr: [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1]
  weight_decay: [1e-6, 1e-5, 1e-4, 1e-3, 1e-2]
  epochs: [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
  seed: 1""",
}
FILES = DatasetFiles("", "", train=50_000, test=10_000, channels=3, labelled=50_000)


def measure(shape: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.yaml"
        path.write_text(f"{EXPERIMENT}{SHAPES[shape]}\n", encoding="utf-8")
        times = [time.perf_counter()]
        declaration = declare(path, [])
        times.append(time.perf_counter())
        expansion = grid.expand(declaration, FILES)
        times.append(time.perf_counter())
        make_plan(expansion.cells, Index(Path(folder) / "runs"))
        times.append(time.perf_counter())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        grid.manifest(declaration, FILES, expansion, "").write(Path(folder))
        times.append(time.perf_counter())
    compose, expand, plan, write = (after - before for before, after in itertools.pairwise(times))
    print(
        f"{shape}: {len(expansion.cells):,} cells; compose {compose:.2f} s, expand {expand:.2f} s, plan {plan:.2f} s, "
        f"manifest {write:.2f} s; {peak:.0f} MB at the most before the manifest"
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(sys.argv[1])
    else:
        for name in SHAPES:
            subprocess.run([sys.executable, __file__, name], check=True)
