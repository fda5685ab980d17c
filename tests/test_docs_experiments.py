"""What docs/experiments.md shows is planned, and what it says of keys, rules and filters is all there is."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from harness.manifest import Claim
from harness.study.claims.measures import MEASURES
from harness.sweep.declare.compose import declare
from harness.sweep.declare.schema import ExperimentSchema
from harness.sweep.expand.derived_fields import RULES

TEXT = (Path(__file__).parents[1] / "docs/experiments.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With every file that is shown, under the name in its first line, and a folder of small photographs."""
    for number in range(1260):
        path = tmp_path / "photographs" / ("train" if number < 1200 else "val") / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (number % 256, 0, 0)).save(path)
    for block in blocks("yaml"):
        (tmp_path / block.partition("\n")[0].removeprefix("# ")).write_text(block, encoding="utf-8")
    return tmp_path


def run(commands: str, folder: Path) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.e2e
def test_the_example_is_planned(folder: Path) -> None:
    said = " ".join(run("harness plan batch_and_rate.yaml", folder).split())
    # simclr: 2 batch sizes, infonce and dcl and twice eqco; moco: 2 losses; less one, 3 seeds each; and one
    assert f"{3 * (2 * 4 + 2 * 2 - 1) + 1} cells" in said
    assert "3 cells are excluded, loss=infonce method=moco batch_size<=64: its queue holds more than an epoch" in said


def test_it_uses_every_key_that_says_which_cells_there_are(folder: Path) -> None:
    experiment = declare(folder / "batch_and_rate.yaml", []).experiment
    for key in ("axes", "zip", "grids", "when", "derive", "exclude", "include", "resources", "scales", "claims"):
        assert getattr(experiment, key), key


@pytest.mark.e2e
def test_the_commands_plan(folder: Path) -> None:
    for command in "".join(blocks("bash")).splitlines():
        run(command, folder)


def test_every_key_and_every_rule_is_in_a_table() -> None:
    named = set(re.findall(r"`(\w+)", "".join(line for line in TEXT.splitlines() if line.startswith("|"))))
    assert {item.name for item in dataclasses.fields(ExperimentSchema)} <= named
    assert set(RULES) <= named
    assert {item.name for item in dataclasses.fields(Claim)} <= named
    assert set(MEASURES) <= named
