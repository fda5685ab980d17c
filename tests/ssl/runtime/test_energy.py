"""Joules by counters of a made-up machine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness.ssl import train
from harness.ssl.attempt import run_cell
from harness.ssl.distributed import World
from harness.ssl.methods.batch import Batch
from harness.ssl.runtime.energy import Meter, meter_of
from harness.store.record import Record
from tests.support.training import MakeRecord, numbers, outcome, stop_and_resume

MOST = 65_532_610_987  # of a common server, in microjoules


def zone(folder: Path, name: str, label: str, microjoules: int) -> Path:
    """A counter as Linux shows it."""
    path = folder / name
    path.mkdir()
    (path / "name").write_text(f"{label}\n")
    (path / "max_energy_range_uj").write_text(f"{MOST}\n")
    count(path, microjoules)
    return path


def count(path: Path, microjoules: int) -> None:
    (path / "energy_uj").write_text(f"{microjoules}\n")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "powercap").mkdir()
    return zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 1_000_000)


def test_packages_are_added_and_their_parts_are_not(package: Path) -> None:
    folder = package.parent
    second = zone(folder, "intel-rapl:1", "package-1", 7)
    others = [
        zone(folder, "intel-rapl:0:0", "core", 0),
        zone(folder, "intel-rapl:0:1", "dram", 0),
        zone(folder, "intel-rapl:2", "psys", 0),
        zone(folder, "intel-rapl-mmio:0", "package-0", 0),
    ]
    (folder / "intel-rapl").mkdir()
    meter = Meter(folder=folder)
    assert meter.read() == {"processor": 0}, "what was used before it was made is not its own"
    for path in others:
        count(path, 10**9)
    count(package, 3_500_000)
    count(second, 1_000_007)
    assert meter.read() == {"processor": pytest.approx(3.5)}
    count(second, 2_000_007)
    assert meter.read() == {"processor": pytest.approx(4.5)}


def test_a_counter_may_begin_anew_between_readings(package: Path) -> None:
    meter = Meter(folder=package.parent)
    count(package, MOST - 2_000_000)
    meter.read()
    count(package, 3_000_000)
    assert meter.read() == {"processor": pytest.approx((MOST - 3_000_000 + 5_000_000) / 1e6)}
    count(package, 2_000_000)
    assert meter.read() == {"processor": pytest.approx((2 * MOST + 1_000_000) / 1e6)}


def test_a_counter_beyond_its_range_is_not_known(package: Path) -> None:
    count(package, 2 * MOST)
    meter = Meter(folder=package.parent)
    count(package, 5)
    assert meter.read() == {}


def unlink(package: Path) -> None:
    (package / "energy_uj").unlink()


def forbid(package: Path) -> None:
    unlink(package)
    (package / "energy_uj").mkdir()  # tests may run as root, whom no mode keeps out; a folder cannot be read either


def garble(package: Path) -> None:
    (package / "energy_uj").write_text("")


@pytest.mark.parametrize("damage", [unlink, forbid, garble])
def test_one_package_that_cannot_be_read_leaves_all_unknown(package: Path, damage: Callable[[Path], None]) -> None:
    zone(package.parent, "intel-rapl:1", "package-1", 0)
    damage(package)
    assert Meter(folder=package.parent).read() == {}, "a part would pass for the whole"


def test_where_there_are_no_counters_nothing_is_known(tmp_path: Path) -> None:
    assert Meter(folder=tmp_path).read() == {}
    assert Meter(folder=tmp_path / "missing").read() == {}


@pytest.mark.parametrize("damage", [unlink, forbid, garble, shutil.rmtree])
def test_a_counter_that_vanishes_is_not_known_from_then_on(package: Path, damage: Callable[[Path], None]) -> None:
    meter = Meter(folder=package.parent)
    damage(package)
    assert meter.read() == {}
    shutil.rmtree(package, ignore_errors=True)
    zone(package.parent, "intel-rapl:0", "package-0", 9_000_000)
    assert meter.read() == {}


class Nvml:
    """pynvml with two GPUs, whose CUDA order is the other way round."""

    def __init__(self) -> None:
        self.millijoules = {"GPU-a": 5_000, "GPU-b": 70_000}

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        return self.millijoules[handle]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    found = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", found)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="ba"[index]))
    return found


def test_gpus_are_those_of_the_cell(package: Path, nvml: Nvml) -> None:
    one, both = Meter([0], package.parent), Meter([0, 1], package.parent)
    nvml.millijoules["GPU-a"] += 500
    nvml.millijoules["GPU-b"] += 2_000
    count(package, 2_000_000)
    assert one.read() == {"processor": pytest.approx(1), "gpu": pytest.approx(2)}
    assert both.read() == {"processor": pytest.approx(1), "gpu": pytest.approx(2.5)}


def test_an_error_of_nvml_leaves_the_processor_known(package: Path, nvml: Nvml) -> None:
    meter = Meter([0], package.parent)
    nvml.millijoules.clear()
    assert meter.read() == {"processor": 0}
    assert Meter([0], package.parent).read() == {"processor": 0}


def test_without_pynvml_no_gpu_is_known(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Meter([0], package.parent).read() == {"processor": 0}


def test_rank_0_has_the_meter_of_the_gpus_of_all_ranks(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, cpu = torch.device("cuda", 0), torch.device("cpu")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    meter, without = meter_of(cuda, World(0, 2)), meter_of(cpu, World(0, 2))
    assert meter is not None
    assert without is not None
    nvml.millijoules = {"GPU-a": 6_000, "GPU-b": 71_000}
    assert meter.read()["gpu"] == pytest.approx(2)
    assert "gpu" not in without.read()
    assert meter_of(cuda, World(1, 2)) is None
    assert meter_of(cuda, World(0, 4)) is None, "two ranks are on another machine"


@pytest.fixture
def a_joule_a_step(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's counter begins anew at the third step."""
    microjoules = MOST - 2_500_000
    count(package, microjoules)
    update = train.Trainer.update

    def use(self: train.Trainer, batch: Batch) -> None:
        nonlocal microjoules
        microjoules = (microjoules + 1_000_000) % MOST
        count(package, microjoules)
        update(self, batch)

    monkeypatch.setattr(train.Trainer, "update", use)
    monkeypatch.setattr(train, "meter_of", lambda device, world: Meter(folder=package.parent))


@pytest.fixture
def calm(make_record: MakeRecord) -> Record:
    """Computed where nothing can be read."""
    record = make_record("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "meter_of", lambda device, world: None)
        run_cell(record)
    return record


@pytest.mark.e2e
def test_attempts_add_up_in_the_outcome_and_change_no_number(
    make_record: MakeRecord, calm: Record, a_joule_a_step: None
) -> None:
    record = make_record("stopped")
    with pytest.MonkeyPatch.context() as patch:
        stop_and_resume(record, 7, patch)
    assert outcome(record).joules == {"processor": pytest.approx(40)}
    assert len(record.attempts()) == 2
    assert not outcome(calm).joules
    assert numbers(record) == numbers(calm)


def test_a_checkpoint_of_before_adds_nothing(
    make_record: MakeRecord, a_joule_a_step: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, state = make_record("stopped"), train.Trainer.state

    def without_joules(self: train.Trainer, train_seconds: float) -> dict[str, object]:
        return {name: value for name, value in state(self, train_seconds).items() if name != "joules"}

    monkeypatch.setattr(train.Trainer, "state", without_joules)
    with pytest.MonkeyPatch.context() as patch:
        stop_and_resume(record, 7, patch)
    assert outcome(record).joules == {"processor": pytest.approx(33)}


def test_the_counter_is_read_at_every_checkpoint(
    make_record: MakeRecord, a_joule_a_step: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings, read = [], Meter.read

    def spy(self: Meter) -> dict[str, float]:
        readings.append(read(self))
        return readings[-1]

    monkeypatch.setattr(Meter, "read", spy)
    run_cell(make_record())
    assert readings == [{"processor": pytest.approx(joules)} for joules in (20, 40, 40)]
