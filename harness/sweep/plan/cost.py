"""The time, disk space and memory of cells, measured in a subprocess and remembered for each machine.

The subprocess keeps torch out of planning, which must start fast.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness import json_process
from harness.catalog.losses import LOSSES
from harness.cell import Backbone, Cell, Head, Loss, Method, from_dict, get, paths
from harness.datasets import DatasetFiles
from harness.datasets.class_folders import scan
from harness.environment.revision import source_hash
from harness.errors import UserError
from harness.files import cache_folder, recall, remember
from harness.manifest import label
from harness.sweep.expand.image_counts import bank_count, train_count
from harness.sweep.expand.resources import Resources
from harness.trees import Node, Tree
from harness.types_of import check_types

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
    """The facts that decide the time of an image: cells of one shape take the same.

    ``own_loss``: a user's loss with its code and its own parameters; empty for the catalogue's, which take a small part
    of a step.
    """

    backbone: Backbone
    head: Head
    method: Method
    optimizer: str
    momentum: bool
    blur: bool
    image_size: int
    stream: bool
    bn_passes: int
    batch_size: int
    micro_batch: int | None
    precision: str
    own_loss: str


@dataclass(frozen=True)
class Footprint:
    """The facts that decide the memory of a cell; ``loss``: its name."""

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
    """Return the facts that decide the memory of a cell which runs on so many ranks."""
    return Footprint(_shape(cell, cell.batch_size, micro_batch), cell.loss.name, cell.bn_groups, world_size)


def _own_loss(loss: Loss) -> str:
    return json.dumps([loss.name, loss.source, loss.own], sort_keys=True) if loss.source else ""


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
        cell.bn_passes,
        batch_size,
        micro_batch,
        cell.precision,
        _own_loss(cell.loss),
    )


@dataclass(frozen=True)
class Measurement:
    """A measurement that is made or recalled for all cells of a kind: on one such ``cell``; ``facts``: what the
    subprocess must know besides."""

    kind: Shape | Footprint
    cell: Cell
    facts: Tree

    @functools.cached_property
    def key(self) -> str:
        """The identity of the measurement on one machine."""
        return json.dumps([type(self.kind).__name__, dataclasses.asdict(self.kind), self.facts], sort_keys=True)

    def to_json(self) -> Tree:
        """Return what the subprocess reads."""
        return {"key": self.key, "cell": dataclasses.asdict(self.cell), **self.facts}


#: What a measurement has found, by the names of ``StepCost``, or as ``bytes``.
Numbers = Mapping[str, float]


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
    measured_steps = {kind: _step_measurement(kind, cell, files, sample) for kind, cell in steps.items()}
    measured_memory = {kind: _memory_measurement(kind, cell, files) for kind, cell in prints.items()}
    measurements = {"steps": list(measured_steps.values()), "memory": list(measured_memory.values())}
    cells_by_key = {
        **{item.key: steps[kind] for kind, item in measured_steps.items()},
        **{item.key: prints[kind] for kind, item in measured_memory.items()},
    }
    numbers = _recalled_or_measured(
        measurements, threads, device, plugins, lambda key: _name_of(cells_by_key[key], cells_by_key.values())
    )
    return Costs(
        device,
        {kind: from_dict(StepCost, numbers[item.key]) for kind, item in measured_steps.items()},
        {kind: int(numbers[item.key]["bytes"]) for kind, item in measured_memory.items()},
    )


def _name_of(cell: Cell, measured: Iterable[Cell]) -> str:
    """Return the name of a cell by the fields in which the measured cells differ."""
    varying = [path for path in paths() if path != "seed" and len({get(other, path) for other in measured}) > 1]
    shown = varying or NAMING
    return label({path: get(cell, path) for path in shown}, shown)


def _some_images(files: DatasetFiles) -> list[Node]:
    """Return the paths of images of the folder whose decoding is measured, evenly spread."""
    paths = scan(Path(files.folder)).train.paths
    return [str(path) for path in paths[:: max(1, len(paths) // DECODED)]]


def _step_measurement(kind: Shape, cell: Cell, files: DatasetFiles, sample: list[Node]) -> Measurement:
    if cell.batch_size != kind.batch_size:
        parts = kind.batch_size // (kind.micro_batch or kind.batch_size)
        cell = dataclasses.replace(cell, batch_size=kind.batch_size, bn_groups=parts)
    images = sample if kind.stream else []
    return Measurement(kind, cell, {"channels": files.channels, "micro_batch": kind.micro_batch, "files": images})


def _memory_measurement(kind: Footprint, cell: Cell, files: DatasetFiles) -> Measurement:
    bank = bank_count(cell, files)
    counts = {
        "train": train_count(cell, files),
        "bank": bank,
        "validation": files.labelled - bank,
        "test": files.test,
    }
    facts: Tree = {
        "channels": files.channels,
        "micro_batch": kind.shape.micro_batch,
        "images": counts,
        "world_size": kind.world_size,
    }
    return Measurement(kind, cell, facts)


def _recalled_or_measured(
    measurements: Mapping[str, Sequence[Measurement]],
    threads: int,
    device: str,
    plugins: Sequence[str],
    name_of: Callable[[str], str],
) -> Mapping[str, Numbers]:
    """Return what each measurement has found, by its key; the key of ``measurements`` says what is measured."""
    machine = [platform.node(), os.cpu_count(), threads, device, sys.version, _torch_version(), source_hash()]
    folder = cache_folder() / "costs"
    files = {
        item.key: folder / f"{hashlib.sha256(json.dumps([item.key, *machine]).encode()).hexdigest()[:24]}.json"
        for items in measurements.values()
        for item in items
    }
    found = {item.key: _recalled(item.kind, files[item.key]) for items in measurements.values() for item in items}
    known: dict[str, Numbers] = {key: numbers for key, numbers in found.items() if numbers}
    unknown = {name: [item for item in items if item.key not in known] for name, items in measurements.items()}
    for own_loss, request in _requests(unknown, plugins):
        for key, numbers in _run(request, threads, device, name_of, own_loss):
            remember(files[key], numbers)
            known[key] = numbers
    return known


def _recalled(kind: Shape | Footprint, file: Path) -> Numbers | None:
    """Return what was remembered of a measurement; None where that is nothing, or not what a measurement finds."""
    stored = recall(file)
    with suppress(KeyError, TypeError, ValueError):
        if stored and isinstance(kind, Shape):
            check_types(from_dict(StepCost, stored))
            return stored
        if stored:
            return {"bytes": int(stored["bytes"])}
    return None


def _requests(unknown: Mapping[str, Sequence[Measurement]], plugins: Sequence[str]) -> Iterator[tuple[str, Tree]]:
    """Yield what each process is to measure: the losses of the catalogue together, and each of a user's by itself.

    A user's code may change anything in its process, and what other losses take must not depend on it. It goes with
    the name by which ``harness check-loss`` knows the loss.
    """
    losses = [item.cell.loss for items in unknown.values() for item in items]
    for name in sorted({loss.name if loss.source else "" for loss in losses}):
        chosen: dict[str, Node] = {
            what: [item.to_json() for item in items if (item.cell.loss.name if item.cell.loss.source else "") == name]
            for what, items in unknown.items()
        }
        yield LOSSES[name].argument if name else "", {"plugins": list(plugins) if name else [], **chosen}


def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        raise UserError("torch is missing, so no step can be measured", next_command="pip install -e .") from None


def _run(
    request: Tree, threads: int, device: str, name_of: Callable[[str], str], own_loss: str = ""
) -> Iterator[tuple[str, Numbers]]:
    """Yield the key and the numbers of each measurement as soon as it is done.

    Args:
        name_of: the name of the cell of a key.
        own_loss: the name of a user's loss for ``harness check-loss``.

    Raises:
        UserError: the process ended before all were done.
    """
    begun = ""
    try:
        for key, numbers in json_process.call("harness.ssl.measure.step_cost", str(threads), device, request=request):
            if numbers is None:
                begun = key
            else:
                begun = ""
                yield key, numbers
        if begun:
            raise json_process.ProcessFailed("the process ended by itself")
    except json_process.ProcessFailed as reason:
        what = f"{name_of(begun)} cannot" if begun else "nothing can"
        other = "harness doctor" + (", or cluster.device=cpu" if device == "cuda" else "")
        raise UserError(
            f"{what} be measured on {device}: {reason}",
            next_command=f"harness check-loss {own_loss}" if own_loss else other,
        ) from None
