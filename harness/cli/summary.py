"""Sentences that several verbs print."""

from __future__ import annotations

from collections import Counter

from harness.record import STATES


def states(counts: Counter[str]) -> str:
    """``27 cells: 24 missing, 3 finished``."""
    return f"{counts.total()} cells: " + ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])


def hours(value: float) -> str:
    """``40 seconds``, ``12 minutes``, ``5.1 hours`` or ``12 days``."""
    if value < 1.5 / 60:
        return f"{max(1, round(value * 3600))} seconds"
    if value < 1.5:
        return f"{value * 60:.0f} minutes"
    return f"{value:.1f} hours" if value < 72 else f"{value / 24:.0f} days"
