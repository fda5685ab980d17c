"""Synthetic records: a manifest and outcomes with chosen accuracies."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.manifest import Manifest
from tests.support.synthetic import Axes, make_records


@pytest.fixture
def synthetic(tiny: Path) -> Callable[..., tuple[Manifest, Path]]:
    """``synthetic(accuracy, *overrides)``: accuracy of a cell's axes by short name; None leaves the cell missing."""
    folders = itertools.count()

    def make(accuracy: Callable[[Axes], float | None], *overrides: str) -> tuple[Manifest, Path]:
        return make_records(tiny, tiny.parent / f"results-{next(folders)}", accuracy, overrides)

    return make
