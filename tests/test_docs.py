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

from harness.plugins import register
from harness.ssl.losses import properties

ROOT = Path(__file__).parents[1]

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


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
    code, _ = blocks("python", (ROOT / "docs/losses.md").read_text(encoding="utf-8"))
    scope: dict[str, object] = {}
    exec(code, scope)
    loss = scope["align_uniform"]
    assert callable(loss)
    generator = torch.Generator().manual_seed(0)
    near = normalize(torch.randn(16, 8, generator=generator), dim=1)
    far = normalize(torch.randn(16, 8, generator=generator), dim=1)
    assert loss(near, near, temperature=0.5) < loss(near, far, temperature=0.5)


def test_the_shown_loss_with_a_state_has_the_properties_of_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(blocks("python", (ROOT / "docs/losses.md").read_text(encoding="utf-8"))[1])
    register([tmp_path / "own.py"])
    monkeypatch.setattr(properties, "_ranks", lambda name: "")
    findings = list(properties.check("centered"))
    assert [finding for finding in findings if finding.required and not finding.holds] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "RELEASING.md", *PAGES])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_index_of_the_documentation_has_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    linked = {f"docs/{name}" for name in re.findall(r"\]\((\w+\.md)\)", index)}
    assert linked == set(PAGES) - {"docs/README.md"}


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.splitlines()) <= 130


def test_the_map_names_folders_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:harness|tests)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.e2e
def test_every_experiment_composes_at_every_scale() -> None:
    from harness.sweep.declare.compose import declare

    for path in (ROOT / "experiments").glob("*.yaml"):
        for scale in declare(path, []).scales:
            assert declare(path, [f"scale={scale}"]).scale == scale
