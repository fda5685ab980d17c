"""What users have set up, and where they stand: a folder with files named like modules, variables, homes, locales."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.store.record import Record

PROGRAM = Path(sys.executable).parent / "harness"
#: One cell of the tiny experiment.
ONE_CELL = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=1"]
#: A store that does not answer: creating one of MLflow's takes longer than such a cell.
NO_STORE = ["--tracking-uri", "http://127.0.0.1:9"]
SHADOWS = ("json", "types", "torch", "numpy", "mlflow", "psutil", "random")


def harness(
    *words: str, cwd: Path, prefix: tuple[str, ...] = (), **variables: str | None
) -> subprocess.CompletedProcess[str]:
    """Run harness as a user does; a variable that is None is not set."""
    environment = {key: value for key, value in {**os.environ, **variables}.items() if value is not None}
    return subprocess.run(
        [*prefix, str(PROGRAM), *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def finished(folder: Path) -> int:
    """Return how many cells have finished."""
    return sum(Record(path).state() == "finished" for path in (folder / "results" / "runs").iterdir())


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_file_of_the_users_folder_is_taken_for_no_module(tiny: Path, ranks: int) -> None:
    """The folder above a checkout has a folder ``harness``; other folders have a ``random.py``."""
    (tiny.parent / "harness").mkdir()
    for name in SHADOWS:
        (tiny.parent / f"{name}.py").write_text("raise SystemExit('shadowed')")
    done = harness("sweep", "tiny.yaml", *ONE_CELL, f"cluster.gpus={ranks}", *NO_STORE, cwd=tiny.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert finished(tiny.parent) == 1
    assert "shadowed" not in (tiny.parent / "results" / "mlflow-mirror.log").read_text()
    done = harness("doctor", cwd=tiny.parent)
    assert "shadowed" not in done.stdout + done.stderr
