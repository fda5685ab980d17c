"""Memory is that of the process's control group where it is less; doctor and benchmark say the same as a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import bench, doctor
from harness.environment import control_groups
from harness.environment.memory import memory_bytes


@pytest.fixture
def limit(tmp_path: Path) -> Path:
    """The file of the limit of this process's control group, below a root of the test's own."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/job\n")
    (tmp_path / "sys/fs/cgroup/job").mkdir(parents=True)
    return tmp_path / "sys/fs/cgroup/job/memory.max"


def test_memory_is_that_of_the_control_group_where_it_is_less(limit: Path, tmp_path: Path) -> None:
    machine = memory_bytes("cpu", tmp_path)
    limit.write_text("max\n")
    assert memory_bytes("cpu", tmp_path) == machine
    limit.write_text("1048576\n")
    assert memory_bytes("cpu", tmp_path) == 2**20


def test_doctor_and_bench_know_control_groups(limit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(control_groups, "ROOT", tmp_path)
    limit.write_text(f"{2 * 2**30}\n")
    limit.with_name("cpu.max").write_text("100000 100000\n")
    printed = {finding.what: finding.found for finding in doctor._machine(tmp_path)}
    assert printed["memory"] == "2 GiB"
    assert printed["cores, GPUs"] == "1 cores, 0 GPUs"
    hardware = bench.about()["hardware"]
    assert (hardware["memory_gib"], hardware["cores"]) == (2.0, 1)
