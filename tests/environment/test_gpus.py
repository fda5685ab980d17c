"""A machine with two unlike GPUs, of which the user hides one: plan, doctor and benchmark speak of the visible one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import bench, doctor
from harness.environment.gpus import gpus, hardware, visible_gpus
from harness.environment.memory import memory_bytes
from harness.errors import UserError
from harness.sweep.run.slots import divide

T4, H100 = "GPU-11111111-aaaa-bbbb-cccc-000000000000", "GPU-22222222-aaaa-bbbb-cccc-000000000000"
NVIDIA_SMI = f"""#!/bin/sh
case "$1" in
  -L) echo "GPU 0: Tesla T4 (UUID: {T4})"; echo "GPU 1: NVIDIA H100 80GB HBM3 (UUID: {H100})";;
  *) echo "0, {T4}, Tesla T4, 15360"; echo "1, {H100}, NVIDIA H100 80GB HBM3, 81920";;
esac
"""
GIB = 2**30


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(NVIDIA_SMI)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("two_gpus")
def test_all_gpus_count_where_none_is_hidden() -> None:
    assert gpus() == ["0", "1"]
    assert hardware("cuda") == "Tesla T4"
    assert memory_bytes("cuda") == 15 * GIB, "a cell may come to the smallest"


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("visible", ["1", H100, H100[:12], " 1 "])
def test_what_is_hidden_does_not_count(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert hardware("cuda") == "NVIDIA H100 80GB HBM3"
    assert memory_bytes("cuda") == 80 * GIB
    assert divide(4, None, "auto").count == 1


@pytest.mark.usefixtures("two_gpus")
def test_gpus_have_the_order_in_which_they_are_made_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert [gpu.index for gpu in visible_gpus()] == ["1", "0"]
    assert hardware("cuda") == "NVIDIA H100 80GB HBM3"


@pytest.mark.usefixtures("two_gpus")
def test_doctor_and_bench_name_the_visible_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    printed = [f"{finding.what}: {finding.found}" for finding in doctor._machine(tmp_path)]
    assert "GPUs: NVIDIA H100 80GB HBM3, 80 GiB" in printed
    assert any(line.endswith("1 GPUs") for line in printed)
    assert bench.about()["hardware"]["gpus"] == ["NVIDIA H100 80GB HBM3"]


def test_without_nvidia_smi_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(UserError, match="the GPU cannot be asked"):
        memory_bytes("cuda")
    assert any("the GPU cannot be asked" in finding.found for finding in doctor._machine(tmp_path))
