"""The damage matrix, to its end: see ``tests/faults/damage.py``. ``make test`` runs a fifth of it, which has every file
and every damage; ``make test-faults`` runs all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.damage import CASES, Case, Results, calm_numbers, check_end, prepare

Numbers = dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Numbers]:
    """The folder that every case copies, and the numbers of all its cells where nothing is damaged."""
    folder = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", "")
        results = prepare(folder / "prepared")
        return results, calm_numbers(results, folder / "calm")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.exhaustive] if number % 5 else [])
        for number, case in enumerate(CASES)
    ],
)
def test_a_damaged_file_costs_no_other_cell_and_no_number(
    case: Case, calm: tuple[Results, Numbers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    results, expected = calm
    check_end(results.copy(tmp_path / "copy"), case, expected)
