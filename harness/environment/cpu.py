"""The processor of this machine, and how many of its cores this process may use."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from harness.environment.control_groups import control_groups


def processor() -> str:
    """The processor's name, by which seconds that were measured on one are known to hold on another machine."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cores(root: Path | None = None) -> int:
    """How many cores this process may use: those it may run on, less if its control groups grant less time.

    A part of a core does not count, since threads wait for each other: with a quota of 3.5 cores, four of them are
    stopped in every period, and three never.
    """
    quotas = [quota for group in control_groups("cpu", root) for quota in _quotas(group)]
    return max(1, min([len(os.sched_getaffinity(0)), *map(int, quotas)]))


def _quotas(group: Path) -> Iterator[float]:
    """Yield the cores whose time a control group grants, in version 2 and 1; nothing where it has no limit."""
    files = ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    for names in files:
        try:
            words = " ".join((group / name).read_text(encoding="ascii") for name in names).split()
            quota, period = map(int, words)
        except (OSError, ValueError):  # there is no such file, or it says max
            continue
        if quota > 0 and period > 0:  # -1 is no limit
            yield quota / period
