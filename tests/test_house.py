"""Each test module stands alone: it is collected and run by itself, in any order, and shares code through support."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from tests.mutants import MUTANTS, Mutant

TESTS = Path(__file__).parent
ROOT = TESTS.parent
FILES = sorted(TESTS.rglob("*.py"))
#: Libraries with compiled operators, which fail unless they are imported after harness.ssl.
ORDERED = ("torchvision", "lightly")


def mentions_ordered(path: Path) -> bool:
    """Whether a file names one of ``ORDERED``: parsing all files would cost every collection two seconds."""
    text = path.read_text(encoding="utf-8")
    return any(name in text for name in ORDERED)


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, anywhere in it; relative ones begin with a dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def found(*, where: str = "") -> dict[str, list[str]]:
    """What each file below ``tests/<where>`` imports."""
    return {str(path.relative_to(ROOT)): list(imports(path)) for path in FILES if path.is_relative_to(TESTS / where)}


def test_no_test_module_is_imported() -> None:
    """What two modules need lies in tests/support."""
    wrong = {
        path: name
        for path, names in found().items()
        for name in names
        if any(part.startswith("test_") or part == "conftest" for part in name.split(".") if name.startswith("tests."))
    }
    assert wrong == {}


def test_modules_of_the_tests_are_imported_by_their_full_names() -> None:
    """``from tests.support import oracles``: a bare ``import oracles`` depends on which folder came first."""
    ours = {path.stem for path in FILES} - {"__init__"} - set(sys.stdlib_module_names)
    wrong = {
        path: name
        for path, names in found().items()
        for name in names
        if name.startswith(".") or (name.split(".")[0] in ours and not name.startswith("tests."))
    }
    assert wrong == {}


def test_support_holds_no_tests() -> None:
    assert [path.name for path in (TESTS / "support").rglob("test_*.py")] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_a_seeded_fault_can_still_be_seeded(mutant: Mutant) -> None:
    """``make mutants`` seeds each and runs the tests that should catch it; here they are only found."""
    assert mutant.path(ROOT / "harness").read_text(encoding="utf-8").count(mutant.old) == 1
    assert all((ROOT / test).is_file() for test in mutant.tests)


def test_the_version_is_the_same_wherever_it_stands() -> None:
    """RELEASING.md says where."""
    citation, changelog = ((ROOT / name).read_text(encoding="utf-8") for name in ("CITATION.cff", "CHANGELOG.md"))
    cited = re.search(r"^version: (\S+)\ndate-released: (\S+)$", citation, re.MULTILINE)
    latest = re.search(r"^## (\d\S*) \((\S+)\)$", changelog, re.MULTILINE)
    assert cited
    assert latest
    assert cited.groups() == latest.groups()
    assert cited[1] == harness.__version__


@pytest.mark.e2e
@pytest.mark.parametrize(
    "path",
    [
        str(path.relative_to(ROOT))
        for path in FILES
        if path.name.startswith("test_")
        and mentions_ordered(path)
        and any(name.split(".")[0] in ORDERED for name in imports(path))
    ],
)
def test_a_file_is_collected_alone(path: str) -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-n", "0", "-p", "no:cacheprovider", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
