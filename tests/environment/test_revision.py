"""The revision that results come from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.environment import revision as module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone of a project, whose remote has a token in its address."""
    package = tmp_path / "checkout" / "harness" / "environment"
    package.mkdir(parents=True)
    shutil.copy(module.__file__, package / "revision.py")
    return commit(tmp_path / "checkout")


def commit(folder: Path) -> Path:
    for words in (
        ["init", "-q"],
        ["remote", "add", "origin", "https://alice:S3cr3t@host/harness.git"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "first", "--allow-empty"],
    ):
        subprocess.run(["git", "-C", folder, *words], check=True)
    return folder


def head(folder: Path) -> str:
    done = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def asked(checkout: Path, **environment: str) -> dict[str, object]:
    code = (
        "import importlib.util, json, sys\n"
        "spec = importlib.util.spec_from_file_location('revision', sys.argv[1])\n"
        "module = sys.modules['revision'] = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "print(json.dumps(vars(module.revision())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, checkout / "harness" / "environment" / "revision.py"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_the_revision_is_that_of_the_checkout_and_holds_nothing_of_its_remote(checkout: Path) -> None:
    assert asked(checkout) == {"revision": head(checkout), "dirty": False}
    (checkout / "harness" / "environment" / "revision.py").write_text(
        (checkout / "harness/environment/revision.py").read_text() + "\n"
    )
    assert asked(checkout) == {"revision": head(checkout), "dirty": True}


def test_variables_of_git_that_name_another_repository_do_not_change_it(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = commit(tmp_path / "other")
    expected = {"revision": head(checkout), "dirty": False}
    assert asked(checkout, GIT_DIR=str(other / ".git"), GIT_WORK_TREE=str(other)) == expected
    assert asked(checkout, GIT_INDEX_FILE=str(tmp_path / "nowhere")) == expected


def test_without_a_git_that_may_be_run_the_revision_is_unknown(checkout: Path, tmp_path: Path) -> None:
    unknown = {"revision": "", "dirty": False}
    (tmp_path / "bin").mkdir()
    assert asked(checkout, PATH=str(tmp_path / "bin")) == unknown
    (tmp_path / "bin" / "git").write_text("no program")
    (tmp_path / "bin" / "git").chmod(0o755)
    assert asked(checkout, PATH=str(tmp_path / "bin")) == unknown
