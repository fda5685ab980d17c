"""A process counts the cores that its control groups grant it, and not those of the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.environment.cpu import cores


def machine(root: Path, groups: str, files: Mapping[str, str]) -> Path:
    """A root of the file system with these control groups, whose files lie in ``/sys/fs/cgroup``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def version_1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        pytest.param("0::/job\n", {"job/cpu.max": "max 100000\n"}, 8, id="no limit"),
        pytest.param("0::/job\n", {"job/cpu.max": "200000 100000\n"}, 2, id="a limit"),
        pytest.param("0::/job\n", {"job/cpu.max": "350000 100000\n"}, 3, id="a part of a core"),
        pytest.param("0::/job\n", {"job/cpu.max": "20000 100000\n"}, 1, id="less than a core"),
        pytest.param("0::/job\n", {"job/cpu.max": "6400000 100000\n"}, 8, id="more than the machine has"),
        pytest.param("0::/a/b\n", {"a/cpu.max": "4 1\n", "a/b/cpu.max": "max 1\n"}, 4, id="a limit above"),
        pytest.param("0::/a/b\n", {"a/cpu.max": "4 1\n", "a/b/cpu.max": "3 1\n"}, 3, id="the lowest limit"),
        pytest.param("0::/\n", {"cpu.max": "200000 100000\n"}, 2, id="the top, as in a container"),
        pytest.param("0::/../../docker/01\n", {"cpu.max": "2 1\n"}, 2, id="a path outside of the container"),
        pytest.param("4:cpu,cpuacct:/j\n", version_1("cpu,cpuacct/j", -1), 8, id="version 1 without a limit"),
        pytest.param("4:cpu,cpuacct:/j\n", version_1("cpu,cpuacct/j", 250_000, 50_000), 5, id="version 1"),
        pytest.param("5:memory:/\n1:cpu:/docker/01\n", version_1("cpu", 200_000), 2, id="the top of version 1"),
        pytest.param("5:memory:/j\n", {"memory/j/cpu.max": "1 1\n"}, 8, id="another controller"),
    ],
)
def test_cores_are_those_that_control_groups_grant(
    tmp_path: Path, groups: str, files: Mapping[str, str], expected: int
) -> None:
    assert cores(machine(tmp_path, groups, files)) == expected


def test_a_machine_without_control_groups_counts_what_it_has(tmp_path: Path) -> None:
    assert cores(tmp_path) == 8
