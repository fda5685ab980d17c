"""What the README shows is run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

ROOT = Path(__file__).parents[1]

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The folders that a user's commands run in, without any results."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    return tmp_path


def run(commands: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.e2e
def test_the_worked_example_runs(checkout: Path) -> None:
    (example,) = blocks("bash")
    done = run(example, checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 cells: 8 finished" in done.stdout
    assert (checkout / "reports/dcl_batchsize.demo.pdf").exists()


@pytest.mark.e2e
def test_the_refusal_is_worded_as_shown(checkout: Path) -> None:
    (shown,) = (block for block in blocks("console") if block.startswith("$ "))
    command, _, expected = shown.removeprefix("$ ").partition("\n")
    assert run(command, checkout).stderr == expected


def test_the_shown_loss_is_one() -> None:
    (code,) = blocks("python")
    scope: dict[str, object] = {}
    exec(code, scope)
    loss = scope["align_uniform"]
    assert callable(loss)
    generator = torch.Generator().manual_seed(0)
    near = normalize(torch.randn(16, 8, generator=generator), dim=1)
    far = normalize(torch.randn(16, 8, generator=generator), dim=1)
    assert loss(near, near, temperature=0.5) < loss(near, far, temperature=0.5)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.e2e
def test_every_experiment_composes_at_every_scale() -> None:
    from harness.sweep.declare.compose import declare

    for path in (ROOT / "experiments").glob("*.yaml"):
        for scale in declare(path, []).scales:
            assert declare(path, [f"scale={scale}"]).scale == scale
