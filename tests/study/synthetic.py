"""Accuracies of synthetic records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.manifest import Manifest
from harness.record import Record

Synthetic = Callable[..., tuple[Manifest, Path]]
Axes = Mapping[str, Any]


def robust(axes: Axes, advantage: float = 4.0) -> float:
    """InfoNCE loses ``advantage`` points at batch 64, DCL none; seeds shift both alike, and a little apart."""
    noise = {0: 0.0, 1: 1.0, 2: -1.0}.get(axes["seed"], 0.5)
    apart = 0.1 * axes["seed"] if axes["loss"] == "dcl" and axes["batch_size"] == 64 else 0.0
    return 80.0 + noise + apart - (advantage if axes["loss"] == "infonce" and axes["batch_size"] == 64 else 0.0)


def short(axes: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's values by short name."""
    return {path.removesuffix(".name").rsplit(".", 1)[-1]: value for path, value in axes.items()}


def logged(manifest: Manifest, results: Path, **metrics: Callable[[Axes], float | None]) -> None:
    """Diagnostics after the last epoch of every cell, as functions of its axes by short name; None logs none."""
    for cell in manifest.cells:
        axes = short(cell.axes)
        found = {name: value for name, of in metrics.items() if (value := of(axes)) is not None}
        Record(results / "runs" / cell.cell_id).attempts()[-1].log_event(20, found, epoch=1)
