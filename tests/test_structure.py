"""The package keeps its shape: small folders, tests that mirror them, and one place for each mechanism."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import harness

PACKAGE = Path(harness.__file__).parent
TESTS = Path(__file__).parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
#: More files than this do not show at a glance what a folder is for; losses and verbs are lists of equals.
MOST_FILES = 12
#: Annotations that say nothing of what a mapping holds, where YAML or JSON is read and written; fewer are better.
MOST_UNTYPED = 56


def holding(text: str) -> list[str]:
    return [name for name, source in SOURCES.items() if text in source]


def test_no_folder_is_crowded() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    equals = {PACKAGE / "cli", PACKAGE / "ssl/losses"}
    crowded = {folder: len(list(folder.glob("*.py"))) for folder in folders - equals if "shared" not in folder.parts}
    assert {folder: count for folder, count in crowded.items() if count > MOST_FILES} == {}


@pytest.mark.parametrize("folder", ["sweep", "study", "store", "catalog", "environment", "datasets"])
def test_tests_mirror_the_folders(folder: str) -> None:
    for path in (PACKAGE / folder).rglob("*.py"):
        mirrored = TESTS / path.relative_to(PACKAGE).parent
        assert mirrored.is_dir(), mirrored


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("fcntl", "files.py"),
        ("nvidia-smi", "environment/gpus.py"),
        ("virtual_memory", "environment/memory.py"),
        ("sched_getaffinity", "environment/cpu.py"),
        ("/fs/cgroup", "environment/control_groups.py"),
        ("disk_usage", "files.py"),
        ("mkstemp", "files.py"),
        ("os.link", "files.py"),  # file systems lack these three
        ("os.fsync", "files.py"),
        ("os.chmod", "files.py"),
        ('"checkpoint.pt"', "store/record.py"),
        ('"kin"', "manifest.py"),
    ],
)
def test_one_mechanism_has_one_place(text: str, place: str) -> None:
    assert holding(text) == [place]


def test_no_child_searches_the_users_folder_for_modules() -> None:
    """Every command line of Python has ``-P``: in the current folder a file may have a module's name."""
    lines = [line.strip() for source in SOURCES.values() for line in source.splitlines()]
    assert [line for line in lines if "[sys.executable," in line and '[sys.executable, "-P"' not in line] == []


def test_the_variables_of_slurm_are_read_in_one_place_of_the_contracts() -> None:
    assert {name for name in holding("SLURM_") if not name.startswith("sweep/slurm/")} == {"environment/job.py"}


def test_slurm_is_named_where_a_scheduler_is_chosen_and_where_a_user_reads_or_writes_the_word() -> None:
    """All else speaks of a cluster or asks a scheduler (``harness.sweep.run.scheduler``), so that another one fits."""
    reasons = {
        "cli/sweep.py": "the help names the page docs/slurm.md",
        "sweep/cluster.py": "the scheduler of submitted sweeps is chosen here",
        "sweep/cluster_check.py": "the checks of the scheduler are chosen here",
        "sweep/declare/cluster_profiles.py": "profiles lie in slurm/clusters, over the defaults of cluster=slurm",
        "sweep/declare/limits.py": "slurm is a value of the key cluster.scheduler",
    }
    named = {name for name, source in SOURCES.items() if re.search(r"\bslurm\b", source, re.IGNORECASE)}
    assert {name for name in named if not name.startswith("sweep/slurm/")} == set(reasons)


def test_verbs_import_at_the_top_of_their_modules() -> None:
    """A verb is imported when it is called; imports inside functions are for what is slow or may be missing."""
    inside = [
        f"{name}: {line.strip()}"
        for name, source in SOURCES.items()
        if name.startswith("cli/")
        for line in source.splitlines()
        if re.match(r" +from (harness|rich)", line)
    ]
    assert len(inside) < 10, inside


def test_untyped_mappings_do_not_spread() -> None:
    found = sum(len(re.findall(r"dict\[str, Any\]|Mapping\[str, Any\]|\bJson\b", text)) for text in SOURCES.values())
    assert found <= MOST_UNTYPED


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{name}: {node.name}"
        for name, source in SOURCES.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= 60
    ]
    assert long == []
