"""tools/install.sh never pulls CUDA onto a machine without a GPU: its choices, with a pip that only writes down."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FAKE_PYTHON = """#!/bin/bash
# A python without torch, whose pip writes its arguments down and fails where FAIL says so.
case "$*" in
  *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; exit 0 ;;
  *"-m pip list"*) exit 0 ;;
  *"-m pip"*) echo "$*" >> "$LOG"; for word in $FAIL; do case "$*" in *"$word"*) exit 1 ;; esac; done; exit 0 ;;
  *"sys.prefix"*) echo "$PWD/.venv"; exit 0 ;;
  *"version"*) echo "2.13.0"; exit 0 ;;
  *"find_spec('torch')"*) exit 1 ;;
  *"import torch"*) exit 1 ;;
  *"import harness"*) exit 1 ;;
esac
exit 0
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    fake = tmp_path / "python"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    return tmp_path


def install(checkout: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    log = checkout / "pip.log"
    fake = {"PATH": "/usr/bin:/bin", "PYTHON": str(checkout / "python"), "LOG": str(log), "HOME": "/", "FAIL": ""}
    command = ["bash", "tools/install.sh"]
    done = subprocess.run(
        command, cwd=checkout, env={**fake, **environment}, capture_output=True, text=True, check=False
    )
    return done, log.read_text().splitlines() if log.exists() else []


def test_a_local_cpu_wheel_is_taken_without_asking_an_index(checkout: Path) -> None:
    done, pip = install(checkout)
    assert done.returncode == 0, done.stderr
    assert "--no-index --no-deps --dry-run torch==2.13.0" in pip[0]
    assert "--no-index --no-deps torch==2.13.0" in pip[1]
    assert "-e .[dev]" in pip[2]


def test_else_pytorchs_cpu_index_is_asked(checkout: Path) -> None:
    done, pip = install(checkout, FAIL="--dry-run")
    assert done.returncode == 0, done.stderr
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in pip[1]
    assert "torch==2.13.0+cpu" in pip[1]


def test_else_it_says_what_it_would_download_and_stops(checkout: Path) -> None:
    done, pip = install(checkout, FAIL="--dry-run whl/cpu")
    assert done.returncode == 1
    assert "TORCH=cuda make demo" in done.stderr
    assert len(pip) == 2, "nothing else was installed"


def test_cuda_only_where_it_is_asked_for(checkout: Path) -> None:
    _, pip = install(checkout, TORCH="cuda")
    assert "install -q -c constraints.txt torch torchvision" in pip[0]
