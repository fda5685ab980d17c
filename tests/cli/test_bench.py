"""``harness bench`` as a user types it; what measures is replaced, so that nothing is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from harness import json_process
from harness.cli import bench
from harness.cli.main import app
from harness.errors import UserError
from harness.ssl.measure import throughput as figures

ROW: bench.Row = {
    "what": "views: two", "unit": "samples/s", "measured": 30_000.0, "beside": 90_000.0, "beside_is": "copy",
    "ratio": 0.32, "goal": 35_000.0, "of_ratio": False, "at_most": False, "note": "",
    "raw": {"views": [30_000.0, 31_000.0]},
}  # fmt: skip


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[bench.Row] | UserError]:
    """What each figure is made to say."""
    said: dict[str, list[bench.Row] | UserError] = {name: [] for name in bench.FIGURES}

    def measured(name: str) -> Iterator[bench.Row]:
        rows = said[name]
        if isinstance(rows, UserError):
            raise rows
        return iter(rows)

    monkeypatch.setattr(bench, "measured", measured)
    return said


def typed(*words: str) -> Result:
    return CliRunner().invoke(app, ["bench", *words], terminal_width=200)


def line(row: bench.Row, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "200")
    bench.show([row])
    return capsys.readouterr().out.splitlines()[3]


def test_every_figure_can_be_measured() -> None:
    assert list(bench.FIGURES) == list(figures.FIGURES)


def test_all_figures_are_measured_in_their_order_unless_some_are_named(rows: Any) -> None:
    assert [word for word in typed().stdout.split() if word.strip(",") in bench.FIGURES][: len(bench.FIGURES)]
    said = typed("gpu", "views").stdout
    assert said.index("[1/2] gpu") < said.index("[2/2] views")
    assert "loop" not in said


def test_an_unknown_figure_is_refused_before_anything_is_measured(rows: Any) -> None:
    done = typed("views", "lop")
    assert isinstance(done.exception, UserError)
    assert "no figure 'lop', did you mean 'loop'" in str(done.exception)
    assert "[1/2]" not in done.stdout


def test_the_file_has_every_round_and_what_it_was_measured_with(rows: Any, tmp_path: Path) -> None:
    rows["views"] = [ROW]
    file = tmp_path / "bench.json"
    assert typed("views", "gpu", "--json", str(file)).exit_code == 0
    written = json.loads(file.read_text())
    assert written["figures"] == {"views": [ROW], "gpu": []}
    assert set(written["hardware"]) == {"processor", "cores", "gpus", "memory_gib", "load"}
    assert {"python", "torch", "torchvision", "harness", "revision"} <= set(written["versions"])
    assert written["date"].endswith("+00:00")


def test_a_folder_that_is_not_there_is_said_before_anything_is_measured(rows: Any, tmp_path: Path) -> None:
    done = typed("--json", str(tmp_path / "nowhere/bench.json"))
    assert isinstance(done.exception, UserError)
    assert "[1/" not in done.stdout


def test_a_figure_that_fails_is_named_and_the_others_are_kept(rows: Any, tmp_path: Path) -> None:
    rows["loss"], rows["views"] = UserError("no memory"), [ROW]
    done = typed("loss", "views", "--json", str(tmp_path / "bench.json"))
    assert done.exit_code == 1
    assert "not measured: loss: no memory" in done.output
    assert json.loads((tmp_path / "bench.json").read_text())["figures"] == {"views": [ROW]}


@pytest.mark.parametrize(
    ("changed", "mark"),
    [
        ({}, "missed"),
        ({"measured": 35_000.0}, "reached"),
        ({"goal": 0.5, "of_ratio": True}, "missed"),
        ({"goal": 0.3, "of_ratio": True}, "reached"),
        ({"goal": 0.3, "of_ratio": True, "at_most": True}, "missed"),
        ({"goal": 30_000.0, "at_most": True}, "reached"),
    ],
)
def test_a_goal_is_of_the_ratio_or_of_the_number_and_from_below_or_above(
    changed: dict[str, Any], mark: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mark in line({**ROW, **changed}, capsys, monkeypatch)


def test_goals_are_seen_whole_on_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    bench.show([{**ROW, "what": "sweep: cells of ResNet-18 width 16, batch 256", "beside_is": "one after another"}])
    lines = capsys.readouterr().out.splitlines()
    assert {len(line) for line in lines} == {80}
    assert "missed" in "".join(lines)


def test_a_row_without_a_goal_is_neither_reached_nor_missed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = line({**ROW, "goal": None}, capsys, monkeypatch)
    assert "30,000 samples/s" in shown
    assert "reached" not in shown
    assert "missed" not in shown


def test_what_was_not_measured_says_why(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "torch sees no GPU" in line({**ROW, "measured": None, "note": "torch sees no GPU"}, capsys, monkeypatch)


def test_a_process_that_dies_is_an_error_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    dies = [sys.executable, "-c", "import sys; sys.exit('Traceback\\nRuntimeError: no memory')"]
    monkeypatch.setattr(json_process, "command", lambda module, *arguments: dies)
    with pytest.raises(UserError, match="RuntimeError: no memory"):
        list(bench.measured("loop"))


def test_the_verb_needs_no_torch() -> None:
    code = "import sys, harness.cli.bench as b; b.about(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_experiment_that_status_looks_at_is_one(tmp_path: Path) -> None:
    from harness.manifest import Manifest

    bench._declare(tmp_path)
    assert len(Manifest.read(tmp_path / "results", "bench.demo").cells) == 100
