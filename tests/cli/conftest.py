"""A results folder of one declared experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.results import Results


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")
