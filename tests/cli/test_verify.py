"""``harness verify`` and ``harness report --all`` as they are typed, on synthetic records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from harness.errors import UserError
from tests.support.synthetic import make_records, robust

pytestmark = pytest.mark.e2e

TWO = (
    "claims=[{name: robust, says: DCL loses less., source: x, measure: drop, arms: ['loss=dcl', 'loss=infonce'], "
    "over: batch_size}, {name: better, says: DCL is better., source: x, paper: dcl, measure: difference, "
    "arms: ['loss=dcl', 'loss=infonce'], at: 'batch_size=256'}]"
)


@pytest.fixture
def folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tiny.parent)
    return tiny.parent


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "120"})
    return done.exit_code, done.output


def test_exit_code_0_is_for_claims_that_are_all_reproduced(folder: Path) -> None:
    make_records(folder / "tiny.yaml", folder / "results", robust, [])
    code, said = run("verify", "tiny.yaml")
    assert code == 0
    assert "REPRODUCED  dcl-robust  +4.10     [+3.85, +4.35]  95 %   3" in said
    assert "Of 1 verdict in all, 1 is REPRODUCED." in said


def test_one_claim_that_is_not_reproduced_is_exit_code_1(folder: Path) -> None:
    make_records(folder / "tiny.yaml", folder / "results", robust, [TWO])
    code, said = run("verify", "tiny.yaml")
    assert code == 1
    assert "What would settle it: " in said
    assert "Of 2 verdicts in all, 1 is REPRODUCED, 1 is INCONCLUSIVE." in said


def test_json_has_every_verdict_with_its_interval_and_cells(folder: Path) -> None:
    make_records(folder / "tiny.yaml", folder / "results", robust, [TWO])
    code, said = run("verify", "tiny.yaml", "--json")
    found = json.loads(said)
    assert code == 1
    assert [one["verdict"] for one in found["verdicts"]] == ["REPRODUCED", "INCONCLUSIVE"]
    assert [one["level"] for one in found["verdicts"]] == pytest.approx([0.975, 0.95])
    assert found["seeds"]["test_knn"]["paired"] is True
    assert len(found["verdicts"][1]["cells"]["InfoNCE"]) == 3


def test_verify_writes_nothing_and_agrees_with_the_report(folder: Path) -> None:
    make_records(folder / "tiny.yaml", folder / "results", robust, [TWO])
    before = sorted(folder.rglob("*"))
    _, said = run("verify", "tiny.yaml", "--json")
    assert sorted(folder.rglob("*")) == before
    run("report", "tiny.yaml", "--tracking-uri", "sqlite:////nowhere/mlflow.db")
    assert json.loads((folder / "results/tiny.demo.claims.json").read_text()) == json.loads(said)


def test_an_experiment_without_claims_is_told_so(folder: Path) -> None:
    make_records(folder / "tiny.yaml", folder / "results", robust, ["claims=[]"])
    with pytest.raises(UserError, match="makes no claims"):
        run("verify", "tiny.yaml")


def test_one_document_for_all_experiments(folder: Path) -> None:
    make_records(folder / "tiny.yaml", folder / "results", robust, [TWO])
    make_records(folder / "tiny.yaml", folder / "results", lambda axes: None, ["scale=wide"])
    (folder / "silent.yaml").write_text((folder / "tiny.yaml").read_text())
    make_records(folder / "silent.yaml", folder / "results", lambda axes: None, ["claims=[]"])
    (folder / "results/manifests/torn.demo.json").write_text("{")
    code, said = run("report", "--all")
    assert code == 0
    assert "tiny.demo: Of 2 verdicts in all, 1 is REPRODUCED, 1 is INCONCLUSIVE." in said
    assert "tiny.wide: Of 1 verdict in all, 1 is INCOMPLETE." in said
    assert "no claims, and so not in it: silent.demo" in said
    assert "torn.demo.json" in said
    assert (folder / "reports/all.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--all"], "no experiment that makes claims"),
        ([], "an experiment file, or --all"),
        (["x", "--all"], "or of all"),
    ],
)
def test_a_report_of_nothing_says_what_there_could_be(folder: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run("report", *arguments)


def test_cells_that_were_not_evaluated_so_are_said_with_the_way_to_do_it(folder: Path) -> None:
    make_records(folder / "tiny.yaml", folder / "results", robust, [])
    code, said = run("verify", "tiny.yaml", "--preset", "dkobak")
    assert code == 1
    assert "not evaluated so: 12 cells of 12; next: harness evaluate tiny.yaml --preset dkobak" in said
