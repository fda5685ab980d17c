"""What a shell completes for the arguments of verbs; where nothing fits, a shell completes names of files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from harness.catalog.losses import LOSSES
from harness.datasets import DATASETS
from harness.sweep.declare import evaluation_presets


def swept_experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of swept experiments, such as dcl_batchsize.demo."""
    results = Path(ctx.params.get("results") or "results")
    return _beginning(incomplete, sorted(path.stem for path in (results / "manifests").glob("*.json")))


def losses(incomplete: str) -> list[str]:
    """Return the catalogue's losses that begin with what has been typed."""
    return _beginning(incomplete, LOSSES)


def datasets(incomplete: str) -> list[str]:
    """Return the catalogue's data sets that begin with what has been typed."""
    return _beginning(incomplete, DATASETS)


def presets(incomplete: str) -> list[str]:
    """Return the evaluation presets that begin with what has been typed."""
    return _beginning(incomplete, evaluation_presets.names())


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
