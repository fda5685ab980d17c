"""A machine with two unlike GPUs, of which the user hides one: plan, doctor and benchmark speak of the visible one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import bench, doctor, main
from harness.environment import gpus as module
from harness.environment.gpus import gpus, hardware, visible_gpus
from harness.environment.memory import memory_bytes
from harness.errors import UserError
from harness.sweep.run.slots import divide

T4, H100 = "GPU-11111111-aaaa-bbbb-cccc-000000000000", "GPU-22222222-aaaa-bbbb-cccc-000000000000"
#: It writes a line for each call next to itself.
NVIDIA_SMI = f"""#!/bin/sh
echo "$@" >> "$0.calls"
echo "0, {T4}, Tesla T4, 15360"
echo "1, {H100}, NVIDIA H100 80GB HBM3, 81920"
"""
GIB = 2**30


@pytest.fixture(autouse=True)
def _other_machine() -> Iterator[None]:
    """Each test has a machine of its own: what nvidia-smi answered before is forgotten."""
    module._installed_gpus.cache_clear()
    yield
    module._installed_gpus.cache_clear()


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The nvidia-smi of a machine with two GPUs."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(NVIDIA_SMI)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tool


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


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("named", "visible"),
    [("NoDevFiles", []), ("7", []), ("", []), ("-1", []), ("1,-1,0", ["1"]), ("0,7,1", ["0"]), ("MIG-1a", ["MIG-1a"])],
)
def test_a_name_that_means_no_gpu_ends_the_list_as_it_does_for_cuda(
    monkeypatch: pytest.MonkeyPatch, named: str, visible: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert gpus() == visible
    assert divide(4, None, "auto").device == ("cuda" if visible else "cpu")


@pytest.mark.parametrize("named", ["NoDevFiles", "0", "GPU-1", "MIG-1"])
def test_a_machine_without_a_gpu_has_none_whatever_a_variable_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert gpus() == []
    assert divide(4, None, "auto").device == "cpu"
    findings = [finding for finding in doctor._machine(tmp_path) if finding.what in ("cores, GPUs", "GPUs")]
    assert findings[0].found.endswith("0 GPUs")
    assert f"CUDA_VISIBLE_DEVICES={named} names no GPU of this machine" in findings[1].found
    assert "unset CUDA_VISIBLE_DEVICES" in findings[1].fix


def test_without_nvidia_smi_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(UserError, match="the GPU cannot be asked"):
        memory_bytes("cuda")
    assert any("the GPU cannot be asked" in finding.found for finding in doctor._machine(tmp_path))


def test_nvidia_smi_is_started_once_in_a_process(two_gpus: Path) -> None:
    assert divide(4, None, "auto").count == 2
    assert (hardware("cuda"), memory_bytes("cuda"), len(visible_gpus())) == ("Tesla T4", 15 * GIB, 2)
    assert len(two_gpus.with_name("nvidia-smi.calls").read_text().splitlines()) == 1


@pytest.mark.parametrize(("before", "after"), [(None, "PCI_BUS_ID"), ("FASTEST_FIRST", "FASTEST_FIRST")])
def test_the_numbers_of_gpus_mean_the_same_to_a_plan_and_to_cuda(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    """CUDA numbers unlike GPUs by their speed unless the environment says otherwise; nvidia-smi never does."""
    monkeypatch.setenv("CUDA_DEVICE_ORDER", before or "")
    if before is None:
        monkeypatch.delenv("CUDA_DEVICE_ORDER")
    seen: list[str] = []
    monkeypatch.setattr(main, "app", lambda: seen.append(os.environ["CUDA_DEVICE_ORDER"]))
    main.main()
    assert seen == [after], "what every process of a verb inherits"
