"""An experiment file whose cells are declared by what a test gives, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.cell import get
from harness.datasets import find
from harness.errors import UserError
from harness.manifest import Manifest
from harness.sweep.declare.compose import declare
from harness.sweep.expand import grid
from tests.support.tiny import TINY

AXES = TINY[TINY.index("axes:\n") : TINY.index("claims:\n")]


def declared(path: Path, declaration: str) -> Path:
    """The tiny experiment with this in place of its axes."""
    path.write_text(TINY.replace(AXES, declaration))
    return path


def expanded(path: Path, *overrides: str) -> grid.Expansion:
    return grid.expand(declare(path, overrides), find("digits", None))


def manifest(path: Path, *overrides: str) -> Manifest:
    return grid.manifest(declare(path, overrides), find("digits", None), expanded(path, *overrides), "")


def points(path: Path, fields: str, *overrides: str) -> list[tuple[Any, ...]]:
    """These fields of every cell."""
    return [tuple(get(cell, field) for field in fields.split()) for cell, _ in expanded(path, *overrides).cells]


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        expanded(path, *overrides)
    return str(caught.value)
