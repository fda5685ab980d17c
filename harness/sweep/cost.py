"""The cost of a training image, measured in a subprocess (planning never imports torch), remembered per machine."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.cell import Cell
from harness.dataset_files import DatasetFiles, cache_folder
from harness.errors import UserError
from harness.record import read_json, write_json


@dataclass(frozen=True)
class Measured:
    """Seconds: of one training image, of the features of one image, of starting a cell."""

    sample: float
    feature: float
    start: float


#: On a CPU a step costs as many seconds as it has images, and a step of 4096 would take minutes to measure.
CPU_BATCH = 64


def measured_cell(cell: Cell, device: str) -> Cell:
    """The cell whose step is measured for this one."""
    if device == "cuda" or cell.batch_size <= CPU_BATCH:
        return cell
    return dataclasses.replace(cell, batch_size=CPU_BATCH, bn_groups=1)


def step_key(cell: Cell, files: DatasetFiles, device: str) -> str:
    """Cells with equal keys cost the same an image."""
    cell = measured_cell(cell, device)
    shape = {
        "backbone": dataclasses.asdict(cell.backbone),
        "head": dataclasses.asdict(cell.head),
        "method": dataclasses.asdict(cell.method),
        "blur": cell.views.blur > 0,
        "image": [files.channels, cell.dataset.image_size],
        "batch_size": cell.batch_size,
        "precision": cell.precision,
    }
    return json.dumps(shape, sort_keys=True)


def measure(
    cells: Iterable[Cell], files: DatasetFiles, threads: int, device: str, plugins: Sequence[str] = ()
) -> Mapping[str, Measured]:
    """Measure one cell of every kind, or recall an earlier measurement on this machine with this torch.

    Raises:
        UserError: a step cannot be run here.
    """
    representative = {step_key(cell, files, device): measured_cell(cell, device) for cell in cells}
    machine = [platform.node(), os.cpu_count(), threads, device, sys.version, importlib.metadata.version("torch")]
    folder = cache_folder() / "costs"
    names = {key: hashlib.sha256(json.dumps([key, *machine]).encode()).hexdigest()[:24] for key in representative}
    known = {key: stored for key, name in names.items() if (stored := read_json(folder / f"{name}.json"))}
    unknown = {key: cell for key, cell in representative.items() if key not in known}
    if unknown:
        kinds = [
            {"key": key, "channels": files.channels, "cell": dataclasses.asdict(cell)} for key, cell in unknown.items()
        ]
        request = {"plugins": list(plugins), "kinds": kinds}
        done = subprocess.run(
            [sys.executable, "-m", "harness.ssl.measure", str(threads), device],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise UserError(
                f"a training step cannot be run on {device}: {done.stderr.strip().splitlines()[-1]}",
                next_command="harness doctor" + (", or cluster.device=cpu" if device == "cuda" else ""),
            )
        folder.mkdir(parents=True, exist_ok=True)
        for key, costs in json.loads(done.stdout).items():
            write_json(folder / f"{names[key]}.json", costs)
            known[key] = costs
    return {key: Measured(**costs) for key, costs in known.items()}
