"""The energy that this machine's counters measured while a cell trained, where they can be read.

The counters cover whole processor packages and GPUs, whatever else runs there.
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
    """A sum of the joules of processor packages, and of the GPUs with these CUDA indices, since it was made.

    It must be read more often than a processor's counter wraps around: some do after 65 kJ, five minutes at 200 W.
    """

    def __init__(self, gpus: Sequence[int] = (), folder: Path = POWERCAP) -> None:
        self._sources: dict[str, list[_Counter]] = {}
        finders = {"processor": partial(_packages, folder), "gpu": partial(_gpus, gpus)}
        for source, find in finders.items():
            # A cell must not fail because its energy is unknown; NVML's errors belong to a module that may be absent.
            try:
                self._sources[source] = find()
            except Exception:  # noqa: BLE001
                continue

    def read(self) -> dict[str, float]:
        """Return the joules so far by source (``processor``, ``gpu``), without sources that could not be read."""
        for source, counters in list(self._sources.items()):
            try:
                for counter in counters:
                    counter.advance()
            except Exception:  # noqa: BLE001  (as above)
                del self._sources[source]  # what it missed would be missing from every later sum
        return {
            source: sum(counter.joules for counter in counters)
            for source, counters in self._sources.items()
            if counters
        }


def meter_of(device: torch.device, world: World) -> Meter | None:
    """Return rank 0's meter; None for other ranks, and where ranks run on several machines."""
    here = os.environ.get("LOCAL_WORLD_SIZE", str(world.size))
    if world.rank != 0 or here != str(world.size):
        return None
    return Meter(range(world.size) if device.type == "cuda" else ())


@dataclass
class _Counter:
    """A counter of energy.

    ``value`` is its present count, in units of ``joule``; after ``most`` it wraps around (0: never).
    """

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
    """Return a counter for each processor package.

    ``intel-rapl-mmio:N`` is left out, because it counts the same packages again; so are ``intel-rapl:N:M``, which are
    parts of them, and ``psys``.
    """
    zones = [zone for zone in sorted(folder.glob("intel-rapl:*")) if _text(zone / "name").startswith("package-")]
    return [_package(zone) for zone in zones]


def _package(zone: Path) -> _Counter:
    return _Counter(lambda: int(_text(zone / "energy_uj")), 1e-6, int(_text(zone / "max_energy_range_uj")))


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()


def _gpus(indices: Sequence[int]) -> list[_Counter]:
    """Return a counter for each GPU, read by pynvml where it is installed."""
    if not indices:
        return []
    nvml = importlib.import_module("pynvml")
    nvml.nvmlInit()
    # NVML numbers all GPUs, whatever CUDA_VISIBLE_DEVICES says.
    uuids = [f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in indices]
    handles = [nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
    return [_Counter(partial(nvml.nvmlDeviceGetTotalEnergyConsumption, handle), 1e-3) for handle in handles]
