"""tools/slurm_tests.py: a test of Slurm that fails runs again, alone, and is named whatever comes of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[1] / "tools" / "slurm_tests.py"
FLAKY, BROKEN = "tests/slurm/test_sweep.py::test_flaky", "tests/slurm/test_faults.py::test_broken"
Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run(shared=[...], twice=[...])``: tests that fail in the first pass, and which of them also fail alone."""
    spec = importlib.util.spec_from_file_location("slurm_tests", PATH)
    assert spec
    assert spec.loader
    tool: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    for name in ("HARNESS_REQUIRE_SLURM", "HARNESS_SLURM_CACHE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(tool, "REPORTS", tmp_path / "reports")

    def runs(shared: list[str], twice: list[str], missing: str = "", code: int = 1) -> int:
        def pytest_(name: str, *arguments: str) -> tuple[int, list[str]]:
            (tool.REPORTS / f"{name}.xml").touch()
            if name == "exclusive":
                return 0, []
            failed = shared if name == "shared" else [test for test in arguments if test in twice]
            return (code if failed else 0), failed

        monkeypatch.setattr(tool, "pytest", pytest_)
        monkeypatch.setattr(tool, "missing", lambda _: missing)
        return int(tool.main([]))

    return runs


def test_what_passes_at_once_is_said_in_a_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([], []) == 0
    assert capsys.readouterr().out == "Every test of Slurm passed at once.\n"


def test_what_passes_only_alone_is_named_and_both_results_are_kept(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run([FLAKY], []) == 0
    assert f"FAILED, THEN PASSED ALONE  {FLAKY}" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "reports").iterdir()} == {"shared.xml", "exclusive.xml", "again-1.xml"}


def test_what_fails_twice_is_a_failure(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([FLAKY, BROKEN], [BROKEN]) == 1
    said = capsys.readouterr().out
    assert f"FAILED TWICE  {BROKEN}" in said
    assert f"FAILED, THEN PASSED ALONE  {FLAKY}" in said


def test_many_failures_are_not_tried_again(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([f"{FLAKY}{number}" for number in range(9)], []) == 1
    assert "too many to be tried again alone" in capsys.readouterr().out


def test_whatever_is_no_failure_of_a_test_ends_it(run: Run) -> None:
    assert run([FLAKY], [], code=2) == 2


def test_without_a_cluster_it_says_how_to_start_one(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([], [], missing="there is no slurm.conf") == 2
    assert "slurm/dev-cluster up" in capsys.readouterr().err
