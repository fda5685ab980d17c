"""``harness evaluate``, and what the other verbs make of an added evaluation."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from harness.cli.shared.load_experiment import load
from harness.datasets.idx import IDX_FILES
from harness.errors import UserError
from harness.evaluation import Evaluation
from harness.manifest import Manifest
from harness.ssl.attempt import run_cell
from harness.store.record import Record
from harness.store.submission import RunConfig, Submission
from harness.study.frame import tidy

pytestmark = pytest.mark.e2e

FEW = ["axes.loss=[infonce,dcl]", "axes.batch_size=[256]", "axes.seed=[0,1]"]


def harness(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli.main", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ})


@pytest.fixture
def swept(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment of four cells, three of them finished; trained once, then copied."""
    kept = tmp_path_factory.getbasetemp() / "three-finished-cells"
    if not kept.exists():
        declared = load(str(tiny), FEW, kept)
        declared.manifest.write(kept)
        for entry in declared.plan.entries[:3]:
            record = Record.prepare(kept / "runs", entry.cell)
            record.submit(Submission(RunConfig(evaluation=declared.declaration.evaluation)))
            run_cell(record)
    shutil.copytree(kept, tiny.parent / "results")
    return tiny.parent


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in (folder / "results/runs").rglob("*") if path.is_file()}


def records(folder: Path) -> list[Record]:
    """Those that have finished."""
    found = [Record(path) for path in sorted((folder / "results/runs").iterdir())]
    return [record for record in found if record.outcome()]


def test_an_evaluation_is_added_once_and_nothing_else_changes(swept: Path) -> None:
    before = files(swept)
    done = harness("evaluate", "tiny.yaml", "--preset", "dkobak", cwd=swept)
    assert done.returncode == 0, done.stderr
    assert "[3/3] loss=" in done.stdout
    assert "2 of 2" in done.stdout
    assert "1 of 2" in done.stdout, "the cell that never ran stays visible"
    added = files(swept) - before
    assert before <= files(swept)
    assert {name.split("/")[3] for name in added} == {"evaluations"}
    assert len(added) == 3

    again = harness("evaluate", "tiny.yaml", "--preset", "dkobak", cwd=swept)
    assert "Nothing is missing." in again.stdout
    own = harness("evaluate", "tiny.demo", "--preset", "solo_learn", cwd=swept)
    assert "Nothing is missing." in own.stdout, "the cells were evaluated so when they finished"
    assert files(swept) - before == added


def test_a_report_of_an_added_evaluation_stands_beside_the_first(swept: Path) -> None:
    lacking = harness("report", "tiny.yaml", "--preset", "dkobak", cwd=swept)
    assert "not evaluated so: 4 of 4 cells; next: harness evaluate tiny.yaml --preset dkobak" in lacking.stdout
    harness("evaluate", "tiny.yaml", "--preset", "dkobak", cwd=swept)
    done = harness("report", "tiny.yaml", "--preset", "dkobak", cwd=swept)
    assert done.returncode == 0, done.stderr
    assert "not evaluated so: 1 of 4 cells" in done.stdout
    first = tidy(Manifest.read(swept / "results", "tiny.demo"), swept / "results").frame
    added = pd.read_csv(swept / "results/tiny.demo.dkobak.csv")
    assert list(first["state"]) == list(added["state"]) == ["finished", "finished", "finished", "missing"]
    for record in records(swept):
        settings = Evaluation(knn_k=10, knn_temperature=None, linear="adam", linear_epochs=100)
        metrics = record.metrics(settings)
        assert metrics is not None
        (row,) = added[added["cell_id"] == record.cell_id].to_dict("records")
        assert row["test_knn"] == pytest.approx(metrics["test_knn"], abs=1e-4)
    assert first["val_knn"].notna().sum() == 3
    assert added["val_knn"].isna().all(), "the curve was measured with other neighbours"
    assert (swept / "reports/tiny.demo.dkobak.pdf").read_bytes().startswith(b"%PDF")


def test_a_sweep_takes_cells_that_have_its_evaluation_and_names_the_verb_that_adds_it(
    swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(swept)

    def planned(preset: str) -> dict[str, int]:
        return load("tiny.yaml", [*FEW, f"evaluate={preset}"], Path("results")).plan.counts()

    command = "harness evaluate tiny.demo --preset dkobak"
    with pytest.raises(UserError, match=f"next:    {command}, or evaluate.knn_k=20"):
        planned("dkobak")
    harness(*command.split()[1:], cwd=swept)
    assert planned("dkobak") == planned("solo_learn") == {"finished": 3, "missing": 1}
    (swept / "results/manifests/tiny.demo.json").unlink()
    ids = " ".join(sorted(record.cell_id for record in records(swept)))
    with pytest.raises(UserError, match=f"harness evaluate {ids} --preset simsiam"):
        planned("simsiam")


def test_a_cell_without_its_encoder_is_named_and_does_not_stop_the_others(swept: Path) -> None:
    lost, *others = records(swept)
    path = lost.encoder()
    assert path is not None
    path.unlink()
    done = harness("evaluate", "tiny.yaml", "--preset", "simsiam", "--json", cwd=swept)
    assert done.returncode == 1
    said = {cell["cell_id"]: cell for cell in json.loads(done.stdout)["cells"]}
    assert said[lost.cell_id]["state"] == "failed"
    assert "its encoder is not in" in said[lost.cell_id]["error"]
    assert {said[other.cell_id]["state"] for other in others} == {"evaluated"}
    assert sorted(cell["state"] for cell in said.values()) == ["evaluated", "evaluated", "failed", "missing"]


def test_what_was_evaluated_before_an_interruption_is_kept(swept: Path) -> None:
    for _ in range(5):  # on a busy machine all three may be done before this process reads of the first
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli.main", "evaluate", "tiny.yaml", "--preset", "lightly_linear"],
            cwd=swept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().startswith("[1/3]")
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the verb and its worker
        _, errors = process.communicate(timeout=60)
        if process.returncode != 0:
            break
        for record in records(swept):
            shutil.rmtree(record.path / "evaluations")
    assert process.returncode == 130
    assert "Go on with: harness evaluate tiny.yaml --preset lightly_linear" in errors
    assert sum((record.path / "evaluations").exists() for record in records(swept)) < 3


def test_single_cells_are_evaluated_by_the_beginnings_of_their_ids(swept: Path) -> None:
    chosen = [record.cell_id[:6] for record in records(swept)[:2]]
    done = harness("evaluate", *chosen, "--preset", "simsiam", cwd=swept)
    assert done.returncode == 0, done.stderr
    assert sum((record.path / "evaluations").exists() for record in records(swept)) == 2


def test_another_data_set_is_evaluated_beside_the_cells_own(swept: Path) -> None:
    write_large_digits(swept / "data")
    where = ["--dataset", "fashion_mnist", "--root", "data"]
    done = harness("evaluate", "tiny.yaml", "--preset", "dkobak", *where, cwd=swept)
    assert done.returncode == 0, done.stdout + done.stderr
    reported = harness("report", "tiny.yaml", "--preset", "dkobak", *where, cwd=swept)
    assert reported.returncode == 0, reported.stderr
    frame = pd.read_csv(swept / "results/tiny.demo.dkobak.fashion_mnist.csv")
    assert frame["test_knn"].min() > 50, "digits, three times as large"
    assert (
        records(swept)[0].metrics(Evaluation(knn_k=10, knn_temperature=None, linear="adam", linear_epochs=100)) is None
    )


def write_large_digits(root: Path) -> None:
    """Real digits in the files of Fashion-MNIST."""
    pixels, labels = load_digits(return_X_y=True)
    large = np.pad(np.kron(pixels.reshape(-1, 8, 8), np.ones((3, 3))) * 15, ((0, 0), (2, 2), (2, 2)))
    folder = root / "FashionMNIST/raw"
    folder.mkdir(parents=True)
    arrays = [large[:1000], labels[:1000], large[1000:], labels[1000:]]
    for name, array in zip(IDX_FILES, arrays, strict=True):
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        (folder / name).write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "tiny.yaml", "--preset", "dkoback"], "did you mean 'dkobak'"),
        (["evaluate", "tiny.yaml", "--preset", "dkobak", "--dataset", "fashion"], "did you mean 'fashion_mnist'"),
        (["evaluate", "tiny.yaml", "--preset", "dkobak", "--dataset", "imagefolder"], "--root FOLDER"),
        (["evaluate", "other.demo", "--preset", "dkobak"], "no manifest of 'other.demo'"),
        (["evaluate", "tiny.yaml", "axes.seed=[0]", "--preset", "dkobak"], "scale=NAME"),
        (["evaluate", "123abc", "--preset", "dkobak"], "no cells begin with '123abc'"),
        (["report", "tiny.yaml", "--dataset", "digits"], "--preset NAME"),
    ],
)
def test_mistakes_end_with_a_sentence_and_no_traceback(swept: Path, arguments: list[str], words: str) -> None:
    done = harness(*arguments, cwd=swept)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_looking_for_what_is_missing_never_imports_torch(swept: Path) -> None:
    code = (
        "import sys; sys.argv = ['harness', 'evaluate', 'tiny.yaml', '--preset', 'solo_learn']\n"
        "import harness.cli.main\n"
        "try: harness.cli.main.main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'mlflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=swept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
