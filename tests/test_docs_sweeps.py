"""What docs/sweeps.md shows is run, on a sweep of two cells."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/sweeps.md").read_text(encoding="utf-8")


@pytest.mark.e2e
def test_the_verbs_take_what_is_shown(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    (shown,) = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    sweep = "harness sweep experiments/dcl_batchsize.yaml 'axes.loss=[infonce,dcl]' 'axes.batch_size=[32]' " \
        "'axes.epochs=[1]' axes.seed=1"  # fmt: skip
    # Nothing has failed, which is what one of the commands asks about.
    asks = "harness status dcl_batchsize.demo state=failed"
    commands = f"{sweep}\n" + shown.replace(asks, f"! {asks}")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "dcl.tar.gz").exists()
    assert not list((tmp_path / "results/runs").rglob("checkpoint.pt"))
    assert len(list((tmp_path / "results/runs").rglob("encoder.safetensors"))) == 2


@pytest.mark.e2e
def test_every_verb_that_is_described_exists() -> None:
    verbs = re.findall(r"^\| `(\w+)[^|]*`", TEXT[TEXT.index("| verb |") :].split("\n\n")[0], re.MULTILINE)
    assert len(verbs) >= 7
    for verb in (*verbs, "import"):
        done = subprocess.run(
            [sys.executable, "-m", "harness.cli.main", verb, "--help"], capture_output=True, check=False
        )
        assert done.returncode == 0, verb
