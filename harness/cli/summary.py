"""Sentences that several verbs print."""

from __future__ import annotations

from harness.record import STATES
from harness.sweep.plan import Plan


def states(plan: Plan) -> str:
    """``27 cells: 3 finished, 24 missing``."""
    counts = plan.counts()
    return f"{len(plan.entries)} cells: " + ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])


def hours(value: float) -> str:
    """``40 seconds``, ``12 minutes`` or ``5.1 hours``."""
    if value < 1.5 / 60:
        return f"{max(1, round(value * 3600))} seconds"
    return f"{value * 60:.0f} minutes" if value < 1.5 else f"{value:.1f} hours"
