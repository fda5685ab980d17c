"""Sentences that several verbs print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.cli.shared.arguments import short_names
from harness.store.record import STATES

if TYPE_CHECKING:
    from harness.sweep.plan.plan import Entry, Plan, PlanEstimate


def states(counts: Counter[str]) -> str:
    """``27 cells: 24 missing, 3 finished``."""
    known = [*STATES, *sorted(set(counts) - set(STATES))]
    return f"{count(counts.total())}: " + ", ".join(f"{counts[state]} {state}" for state in known if counts[state])


def count(cells: int) -> str:
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


def sources(estimate: PlanEstimate) -> str:
    """Where an estimate's hours come from."""
    known = [(estimate.by_records, "by finished seeds of their arms"), (estimate.by_steps, "by a measured step")]
    return ", ".join(f"{count(cells)} {source}" for cells, source in known if cells)


def arm_name(entry: Entry, varying: Sequence[str]) -> str:
    return short_names(entry.axes, [path for path in varying if path != "seed"]) or "all"


def not_retried(plan: Plan, varying: Sequence[str]) -> Iterator[str]:
    """Failed cells that a sweep leaves alone, and what to do about each."""
    for entry in plan.not_retried():
        name = short_names(entry.axes, varying) or entry.cell.cell_id
        yield f"not tried again: {name} ({entry.cause.replace('_', ' ')}); harness retry {entry.cell.cell_id}"


def refusals(estimate: PlanEstimate, varying: Sequence[str]) -> Iterator[str]:
    """Every arm that is too large for this machine, and what to do about it."""
    refused = Counter((arm_name(entry, varying), estimate.memory(entry)) for entry in estimate.refused)
    here = size(estimate.memory_limit)
    for (name, needed), cells in refused.items():
        yield f"{name} ({count(cells)}) needs about {size(needed)} of memory, this machine has {here}"
    if refused:
        yield "they are not run: take a smaller batch_size, an exclude: line with this reason, or a larger machine"
