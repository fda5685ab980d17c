"""Memory is that of the process's control group where it is less; doctor and benchmark say the same as a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import bench, doctor
from harness.environment import memory
from harness.environment.memory import memory_bytes


@pytest.fixture
def limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the limit of this process's control group, below a folder of the test's own."""
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    controllers, group = next((of, path) for _, of, path in own if of in ("", "memory"))
    folder = tmp_path / controllers / group.strip("/")
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    return folder / "memory.max"


def test_memory_is_that_of_the_control_group_where_it_is_less(limit: Path) -> None:
    machine = memory_bytes("cpu")
    limit.write_text("max\n")
    assert memory_bytes("cpu") == machine
    limit.write_text("1048576\n")
    assert memory_bytes("cpu") == 2**20


def test_doctor_and_bench_know_control_groups(limit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    limit.write_text(f"{2 * 2**30}\n")
    printed = {finding.what: finding.found for finding in doctor._machine(tmp_path)}
    assert printed["memory"] == "2 GiB"
    assert bench.about()["hardware"]["memory_gib"] == 2.0
