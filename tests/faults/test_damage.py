"""The damage matrices, to their ends: see ``tests/faults/damage.py``. ``make test`` runs a fifth of them, with every
damage and nearly every file; ``make test-faults`` runs all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import damage_mirror, damage_running, damage_submitted
from tests.faults.damage import CASES, Case, Numbers, Results, calm_numbers, check_end, prepare


def each(cases: list[Case]) -> pytest.MarkDecorator:
    """Let a test run for every case; those that are not a fifth case are exhaustive."""
    parameters = [
        pytest.param(case, id=case.name, marks=[pytest.mark.exhaustive] if number % 5 else [])
        for number, case in enumerate(cases)
    ]
    return pytest.mark.parametrize("case", parameters)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Numbers]:
    """The folder that every case copies, and the numbers of all its cells where nothing is damaged."""
    folder = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", "")
        results = prepare(folder / "prepared")
        return results, calm_numbers(results, folder / "calm")


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> damage_mirror.Prepared:
    return damage_mirror.Prepared(tmp_path_factory.mktemp("mirrored") / "prepared")


@each(CASES)
def test_a_damaged_file_costs_no_other_cell_and_no_number(
    case: Case, calm: tuple[Results, Numbers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    results, expected = calm
    check_end(results.copy(tmp_path / "copy"), case, expected)


@each(damage_running.CASES)
def test_a_sweep_that_is_running_finishes_the_cells_that_are_not_damaged(
    case: Case, calm: tuple[Results, Numbers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    results, expected = calm
    damage_running.check_running(results.copy(tmp_path / "copy"), case, expected)


@each(damage_mirror.CASES)
def test_a_sync_brings_back_what_a_damaged_store_has_lost(
    case: Case, mirrored: damage_mirror.Prepared, tmp_path: Path
) -> None:
    mirrored.check(case, tmp_path / "copy")


@each(damage_submitted.CASES)
def test_a_sweep_on_a_cluster_finishes_every_cell_once_whatever_of_it_is_damaged(case: Case, tmp_path: Path) -> None:
    damage_submitted.check(case, tmp_path)
