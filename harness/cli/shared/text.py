"""Counts, durations and sizes as several verbs print them."""

from __future__ import annotations

from collections import Counter

from harness.store.record import STATES


def states(counts: Counter[str]) -> str:
    """``27 cells: 24 missing, 3 finished``."""
    known = [*STATES, *sorted(set(counts) - set(STATES))]
    return f"{count(counts.total())}: " + ", ".join(f"{counts[state]} {state}" for state in known if counts[state])


def count(cells: int) -> str:
    """Return "1 cell" or "12,000 cells"."""
    return f"{cells:,} cell{'' if cells == 1 else 's'}"


def hours(value: float) -> str:
    """``1 second``, ``40 seconds``, ``12 minutes``, ``5.1 hours`` or ``12 days``."""
    if value < 1.5 / 60:
        seconds = max(1, round(value * 3600))
        return f"{seconds} second{'' if seconds == 1 else 's'}"
    if value < 1.5:
        return f"{value * 60:.0f} minutes"
    return f"{value:.1f} hours" if value < 72 else f"{value / 24:.0f} days"


def size(count_of_bytes: int) -> str:
    """``480 KiB``, ``25 MiB`` or ``3.1 GiB``."""
    mebibytes = count_of_bytes / 2**20
    if mebibytes < 1:
        return f"{count_of_bytes / 2**10:,.0f} KiB"
    return f"{mebibytes:,.0f} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:,.1f} GiB"
