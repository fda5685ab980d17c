"""Every recipe of docs/extending.md is applied to a copy of the repository, and its own commands are run there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
#: What a recipe needs of the repository.
COPIED = ("harness", "tests", "experiments", "docs", "pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The language and the content of each code block."""
    return ((language, content) for language, content in re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S))


def apply(recipe: str, folder: Path) -> None:
    """Write the new files of a recipe, whose first line is ``# path``, and make its edits (``diff`` blocks)."""
    for language, content in blocks(recipe):
        first, _, rest = content.partition("\n")
        if language == "diff":
            edit(folder / first.removeprefix("--- "), rest)
        elif language in ("python", "yaml") and first.startswith("# "):
            path = folder / first.removeprefix("# ")
            assert not path.exists(), f"{path} exists already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(rest, encoding="utf-8")


def edit(path: Path, lines: str) -> None:
    """Replace what the block shows without + by what it shows without -."""
    before = "".join(f"{line[1:]}\n" for line in lines.splitlines() if not line.startswith("+"))
    after = "".join(f"{line[1:]}\n" for line in lines.splitlines() if not line.startswith("-"))
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{path}: this stands there {text.count(before)} times:\n{before}"
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the repository without results."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def run(commands: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),  # before the repository that this environment was installed from
        "PYTEST_ADDOPTS": "-p no:cacheprovider -n 0",
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if "```" in recipe])
def test_a_recipe_works_as_it_is_written(name: str, copy: Path) -> None:
    recipe = RECIPES[name]
    apply(recipe, copy)
    commands = [content for language, content in blocks(recipe) if language == "bash"]
    assert commands, "a recipe ends with the commands that show that it works"
    for command in commands:
        done = run(command, copy)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if "```" in recipe])
def test_the_code_of_a_recipe_is_formatted_and_typed_as_the_package_is(name: str, copy: Path) -> None:
    apply(RECIPES[name], copy)
    done = run("ruff check --no-cache harness tests && ruff format --no-cache --check harness tests", copy)
    assert done.returncode == 0, done.stdout + done.stderr
