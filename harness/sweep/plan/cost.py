"""The time, disk space and memory of cells, measured in a subprocess and remembered for each machine.

The subprocess keeps torch out of planning, which must start fast.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import json_process
from harness.cell import Backbone, Cell, Head, Method, get, paths
from harness.datasets import DatasetFiles
from harness.datasets.class_folders import scan
from harness.environment.revision import source_hash
from harness.errors import UserError
from harness.files import Json, cache_folder, read_json, write_json
from harness.manifest import label
from harness.sweep.expand.image_counts import bank_count, train_count
from harness.sweep.expand.resources import Resources

#: The images of a step that is measured on a CPU, there 64 of 32x32 pixels, or fewer larger ones. The time of a step is
#: proportional to its images, and a step of 4096 would take minutes to measure.
CPU_BATCH, CPU_PIXELS, CPU_FEWEST = 64, 64 * 32 * 32, 4
#: How many files of a streamed data set are decoded to measure the time of one.
DECODED = 16
#: The fields that name a cell if only one is measured.
NAMING = ("loss.name", "backbone.name", "batch_size")


@dataclass(frozen=True)
class StepCost:
    """Seconds of one training image, of the features of one image and of the start of a cell; bytes of its files."""

    sample: float
    feature: float
    start: float
    encoder_bytes: int
    checkpoint_bytes: int


@dataclass(frozen=True)
class Shape:
    """The facts that decide the time of an image: cells of one shape take the same."""

    backbone: Backbone
    head: Head
    method: Method
    optimizer: str
    momentum: bool
    blur: bool
    image_size: int
    stream: bool
    batch_size: int
    micro_batch: int | None
    precision: str


@dataclass(frozen=True)
class Footprint:
    """The facts that decide the memory of a cell; ``loss``: its name, and the hash of the code if it is a user's."""

    shape: Shape
    loss: str
    groups: int
    world_size: int


def shape(cell: Cell, device: str, micro_batch: int | None = None) -> Shape:
    """Return the shape of the step that is measured for this cell; with micro-batches it has two or more whole ones."""
    enough = max(CPU_FEWEST, min(CPU_BATCH, CPU_PIXELS // cell.dataset.image_size**2))
    batch_size = cell.batch_size if device == "cuda" else min(cell.batch_size, enough)
    part = min(micro_batch, batch_size // 2) if micro_batch else batch_size
    return _shape(cell, batch_size - batch_size % part, part if micro_batch else None)


def footprint(cell: Cell, world_size: int, micro_batch: int | None = None) -> Footprint:
    loss = cell.loss.name + (cell.loss.source or "")
    return Footprint(_shape(cell, cell.batch_size, micro_batch), loss, cell.bn_groups, world_size)


def _shape(cell: Cell, batch_size: int, micro_batch: int | None) -> Shape:
    return Shape(
        cell.backbone,
        cell.head,
        cell.method,
        cell.optimizer.name,
        cell.optimizer.momentum > 0,
        cell.views.blur > 0,
        cell.dataset.image_size,
        cell.dataset.stream,
        batch_size,
        micro_batch,
        cell.precision,
    )


@dataclass(frozen=True)
class Costs:
    """The measured costs; ``memory``: peak bytes of a whole cell on a CPU, of one process on GPUs (0: unknown)."""

    device: str
    steps: Mapping[Shape, StepCost]
    memory: Mapping[Footprint, int]


def measure(
    cells: Iterable[tuple[Cell, Resources]], files: DatasetFiles, threads: int, device: str, plugins: Sequence[str] = ()
) -> Costs:
    """Return the costs of every kind of these cells, measured now or remembered from an earlier measurement.

    A measurement is remembered for this machine, this torch and these sources.

    Raises:
        UserError: one of them cannot be measured on this machine; earlier measurements are kept.
    """
    cells = list(cells)
    steps = {shape(cell, device, given.micro_batch_of(cell)): cell for cell, given in cells}
    prints = {footprint(cell, given.world_size, given.micro_batch_of(cell)): cell for cell, given in cells}
    sample = _some_images(files) if any(kind.stream for kind in steps) else []
    asked: dict[str, list[Json]] = {
        "steps": [_step_kind(kind, cell, files, sample) for kind, cell in steps.items()],
        "memory": [_memory_kind(kind, cell, files) for kind, cell in prints.items()],
    }
    keys = [item["key"] for item in [*asked["steps"], *asked["memory"]]]
    cell_of = dict(zip(keys, [*steps.values(), *prints.values()], strict=True))
    found = _recalled_or_measured(asked, threads, device, plugins, lambda key: _called(cell_of[key], cell_of.values()))
    return Costs(
        device,
        {kind: StepCost(**found[item["key"]]) for kind, item in zip(steps, asked["steps"], strict=True)},
        {kind: found[item["key"]]["bytes"] for kind, item in zip(prints, asked["memory"], strict=True)},
    )


def _called(cell: Cell, among: Iterable[Cell]) -> str:
    """Return the name of a cell by the fields in which the measured cells differ."""
    varying = [path for path in paths() if path != "seed" and len({get(one, path) for one in among}) > 1]
    shown = varying or NAMING
    return label({path: get(cell, path) for path in shown}, shown)


def _some_images(files: DatasetFiles) -> list[str]:
    """Return images of the folder whose decoding is measured, evenly spread."""
    paths = scan(Path(files.folder)).train.paths
    return [str(path) for path in paths[:: max(1, len(paths) // DECODED)]]


def _step_kind(kind: Shape, cell: Cell, files: DatasetFiles, sample: list[str]) -> Json:
    if cell.batch_size != kind.batch_size:
        parts = kind.batch_size // (kind.micro_batch or kind.batch_size)
        cell = dataclasses.replace(cell, batch_size=kind.batch_size, bn_groups=parts)
    images = sample if kind.stream else []
    return _asked(kind, cell, {"channels": files.channels, "micro_batch": kind.micro_batch, "files": images})


def _memory_kind(kind: Footprint, cell: Cell, files: DatasetFiles) -> Json:
    bank = bank_count(cell, files)
    counts = {
        "train": train_count(cell, files),
        "bank": bank,
        "validation": files.labelled - bank,
        "test": files.test,
    }
    more = {"micro_batch": kind.shape.micro_batch, "images": counts, "world_size": kind.world_size}
    return _asked(kind, cell, {"channels": files.channels, **more})


def _asked(kind: Shape | Footprint, cell: Cell, more: Mapping[str, Any]) -> Json:
    key = json.dumps([type(kind).__name__, dataclasses.asdict(kind), more], sort_keys=True)
    return {"key": key, "cell": dataclasses.asdict(cell), **more}


def _recalled_or_measured(
    asked: Mapping[str, list[Json]],
    threads: int,
    device: str,
    plugins: Sequence[str],
    called: Callable[[str], str],
) -> dict[str, Json]:
    machine = [platform.node(), os.cpu_count(), threads, device, sys.version, _torch_version(), source_hash()]
    folder = cache_folder() / "costs"
    files = {
        item["key"]: folder / f"{hashlib.sha256(json.dumps([item['key'], *machine]).encode()).hexdigest()[:24]}.json"
        for kinds in asked.values()
        for item in kinds
    }
    known = {key: stored for key, file in files.items() if (stored := read_json(file))}
    unknown = {name: [item for item in kinds if item["key"] not in known] for name, kinds in asked.items()}
    if any(unknown.values()):
        folder.mkdir(parents=True, exist_ok=True)
        for key, costs in _run({"plugins": list(plugins), **unknown}, threads, device, called):
            write_json(files[key], costs)
            known[key] = costs
    return known


def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        raise UserError("torch is missing, so no step can be measured", next_command="pip install -e .") from None


def _run(request: Json, threads: int, device: str, called: Callable[[str], str]) -> Iterator[tuple[str, Json]]:
    """Yield the key and the costs of each measurement as soon as it is done.

    Raises:
        UserError: the process ended before it had found everything; ``called`` names the cell of a key.
    """
    begun = ""
    try:
        for key, costs in json_process.call("harness.ssl.measure.step_cost", str(threads), device, request=request):
            if costs is None:
                begun = key
            else:
                yield key, costs
    except json_process.ProcessFailed as reason:
        what = f"{called(begun)} cannot" if begun else "nothing can"
        raise UserError(
            f"{what} be measured on {device}: {reason}",
            next_command="harness doctor" + (", or cluster.device=cpu" if device == "cuda" else ""),
        ) from None
