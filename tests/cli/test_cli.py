"""The verbs as a user types them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from harness.sweep.tracking.tracking_uri import default_uri
from tests.support.command_line import harness

FEW = ["axes.loss=[infonce,dcl]", "axes.batch_size=[256]", "axes.seed=[0]"]


@pytest.mark.e2e
def test_from_a_yaml_file_to_a_report(tiny: Path) -> None:
    folder, results = tiny.parent, tiny.parent / "results"
    planned = harness("plan", "tiny.yaml", *FEW, cwd=folder)
    assert "2 cells: 2 missing" in planned.stdout
    assert not results.exists(), "a plan changes nothing"

    swept = harness("sweep", "tiny.yaml", *FEW, cwd=folder)
    assert swept.returncode == 0, swept.stderr
    assert "[2/2]" in swept.stdout
    assert "wide:     12 cells on scikit-learn digits (8x8); what they cost: harness plan" in swept.stdout
    assert "big:      " in swept.stdout, "another scale's mistake is said, and costs this sweep nothing"

    again = harness("sweep", "tiny.yaml", *FEW, cwd=folder)
    assert "Nothing is missing." in again.stdout

    status = harness("status", cwd=folder)
    assert "tiny.demo: 2 cells: 2 finished" in status.stdout

    reported = harness("report", "tiny.yaml", cwd=folder)
    assert reported.returncode == 0, reported.stderr
    frame = pd.read_csv(results / "tiny.demo.csv")
    assert list(frame["state"]) == ["finished", "finished"]
    assert (folder / "reports/tiny.demo.pdf").read_bytes().startswith(b"%PDF")

    client = MlflowClient(default_uri(results))
    runs = client.search_runs([client.get_experiment_by_name("tiny.demo").experiment_id])
    cells = [run for run in runs if "harness.cell_id" in run.data.tags]
    assert {run.data.tags["harness.cell_id"] for run in cells} == set(frame["cell_id"])
    for run in cells:
        (row,) = frame[frame["cell_id"] == run.data.tags["harness.cell_id"]].to_dict("records")
        assert run.data.metrics["test_knn"] == pytest.approx(row["test_knn"], abs=1e-4)
    (summary,) = [run for run in runs if run.data.tags.get("harness.role") == "summary"]
    names = {item.path for item in client.list_artifacts(summary.info.run_id)}
    assert {"tiny.demo.pdf", "tiny.demo.svg", "tiny.demo.table.md"} <= names


@pytest.mark.e2e
def test_a_failing_cell_is_named_and_does_not_stop_the_others(tiny: Path) -> None:
    swept = harness("sweep", "tiny.yaml", *FEW[1:], "axes.loss=[dcl]", "axes.lr=[0.1,1e30]", cwd=tiny.parent)
    assert swept.returncode == 1
    assert "FAILED: Diverged" in swept.stdout
    assert "1 of 2 cells have not finished" in swept.stdout
    status = harness("status", "tiny.yaml", cwd=tiny.parent)
    assert "1 finished, 1 failed" in status.stdout
    assert "stderr.log" in status.stdout


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep", "tiny.yaml", "batchsize=3"], "did you mean 'batch_size'"),
        (["plan", "nowhere.yaml"], "no such experiment"),
        (["report", "tiny.yaml"], "no manifest of 'tiny.demo'"),
        (["report", "tiny.yaml", "axes.seed=[0]"], "scale=NAME"),
        (["ui"], "nothing has been mirrored"),
    ],
)
def test_mistakes_end_with_a_sentence_and_no_traceback(tiny: Path, arguments: list[str], words: str) -> None:
    done = harness(*arguments, cwd=tiny.parent)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tiny.parent / "results" / "runs").exists()


@pytest.mark.e2e
def test_help_of_every_verb_says_what_it_does(tmp_path: Path) -> None:
    verbs = ("plan", "sweep", "status", "report", "verify", "evaluate", "export-encoder", "ui", "doctor", "bench")
    overview = harness("--help", cwd=tmp_path).stdout
    for verb in verbs:
        assert verb in overview
        assert "Usage" in harness(verb, "--help", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["status"],
        ["plan", "tiny.yaml", "axes.batch_size=[64]"],
        ["report", "tiny.yaml"],
        ["verify", "tiny.yaml"],
    ],
)
def test_looking_never_imports_torch(tiny: Path, arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['harness', *{arguments!r}]\n"
        "import harness.cli.main\n"
        "try: harness.cli.main.main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'mlflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tiny.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.e2e
def test_doctor_names_what_is_missing_and_how_to_fix_it(tmp_path: Path) -> None:
    done = harness("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "torch" in done.stdout
    assert "python -P -m harness.ssl.data.download cifar10 data" in done.stdout
