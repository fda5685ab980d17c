"""The energy that this machine's counters saw while a cell was computed, where they can be read.

They count whole processor packages and GPUs, whatever else runs there.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from harness.ssl.distributed import World

#: Linux's power capping framework: Intel's counters of energy (RAPL), and AMD's by the same name; often for root only.
POWERCAP = Path("/sys/class/powercap")


class Meter:
    """Adds up joules from its making on: of processor packages, and of the GPUs with these CUDA indices.

    To be read more often than a processor's counter begins anew: some do after 65 kJ, five minutes at 200 W.
    """

    def __init__(self, gpus: Sequence[int] = (), folder: Path = POWERCAP) -> None:
        self._sources: dict[str, list[_Counter]] = {}
        finders = {"processor": partial(_packages, folder), "gpu": partial(_gpus, gpus)}
        for source, find in finders.items():
            # No cell fails for want of a number beside its results; NVML's errors are a module's that may not be there.
            try:
                self._sources[source] = find()
            except Exception:  # noqa: BLE001
                continue

    def read(self) -> dict[str, float]:
        """Joules so far by source, ``processor`` and ``gpu``, without those that could not be read now or before."""
        for source, counters in list(self._sources.items()):
            try:
                for counter in counters:
                    counter.advance()
            except Exception:  # noqa: BLE001  (as above)
                del self._sources[source]  # what it missed would be missing from every later sum
        return {source: sum(one.joules for one in counters) for source, counters in self._sources.items() if counters}


def meter_of(device: torch.device, world: World) -> Meter | None:
    """Rank 0's; None for the other ranks, and where ranks are on other machines, whose counters it does not see."""
    here = os.environ.get("LOCAL_WORLD_SIZE", str(world.size))
    if world.rank != 0 or here != str(world.size):
        return None
    return Meter(range(world.size) if device.type == "cuda" else ())


@dataclass
class _Counter:
    """``value``: its present count, in units of ``joule``; after ``most`` it begins anew (0: it never does)."""

    value: Callable[[], int]
    joule: float
    most: int = 0
    counted: int = 0
    last: int = field(init=False)

    def __post_init__(self) -> None:
        self.last = self.value()

    def advance(self) -> None:
        now = self.value()
        step = now - self.last if now >= self.last else now - self.last + self.most
        if step < 0:
            raise ValueError("the counter was set back")
        self.last, self.counted = now, self.counted + step

    @property
    def joules(self) -> float:
        return self.counted * self.joule


def _packages(folder: Path) -> list[_Counter]:
    """Not ``intel-rapl-mmio:N``, the same packages again; nor ``intel-rapl:N:M``, parts of them, nor ``psys``."""
    zones = [zone for zone in sorted(folder.glob("intel-rapl:*")) if _text(zone / "name").startswith("package-")]
    return [_package(zone) for zone in zones]


def _package(zone: Path) -> _Counter:
    return _Counter(lambda: int(_text(zone / "energy_uj")), 1e-6, int(_text(zone / "max_energy_range_uj")))


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()


def _gpus(indices: Sequence[int]) -> list[_Counter]:
    """By pynvml, if somebody has installed it."""
    if not indices:
        return []
    nvml = importlib.import_module("pynvml")
    nvml.nvmlInit()
    # NVML's own numbering knows nothing of CUDA_VISIBLE_DEVICES.
    uuids = [f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in indices]
    handles = [nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
    return [_Counter(partial(nvml.nvmlDeviceGetTotalEnergyConsumption, handle), 1e-3) for handle in handles]
