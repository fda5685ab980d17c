"""Sentences about a plan that several verbs print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from harness.cli.shared.text import count, size
from harness.errors import UnreadableFile
from harness.sweep.launch import Declared
from harness.sweep.plan.plan import Plan, PlanEstimate


def sources(estimate: PlanEstimate) -> str:
    """Say for how many cells the estimate comes from finished seeds, and for how many from a measured step."""
    known = [(estimate.by_records, "by finished seeds of their arms"), (estimate.by_steps, "by a measured step")]
    return ", ".join(f"{count(cells)} {source}" for cells, source in known if cells)


def not_retried(plan: Plan, varying: Sequence[str]) -> Iterator[str]:
    """List the failed cells that a sweep does not try again, each with the command that does."""
    for entry in plan.not_retried():
        name = entry.label(varying)
        yield f"not tried again: {name} ({entry.cause.replace('_', ' ')}); harness retry {entry.cell.cell_id}"


def damages(plan: Plan, varying: Sequence[str]) -> Iterator[str]:
    """List the damaged files of the plan's cells, and say what a sweep does about each."""
    for entry, damaged in plan.with_damage():
        again = "the cell is computed again" if entry.state == "damaged" else "no number depends on it"
        for sentence in damaged:
            follows = "nothing is computed anew for it" if UnreadableFile.WHAT in sentence else again
            yield f"damaged: {entry.label(varying)}: {sentence}; {follows}"


def refusals(declared: Declared, estimate: PlanEstimate) -> Iterator[str]:
    """List the arms that are too large for this machine or for a cluster's nodes, and say what can be done."""
    if estimate.memory_limit is None:
        return
    varying = declared.manifest.varying
    refused = Counter((entry.arm_label(varying), estimate.memory(entry)) for entry in estimate.refused)
    limit = size(estimate.memory_limit)
    available = f"a node has {limit} (cluster.memory)" if declared.on_cluster else f"this machine has {limit}"
    for (name, needed), cells in refused.items():
        yield f"{name} ({count(cells)}) needs about {size(needed)} of memory, {available}"
    if refused:
        larger = "larger nodes" if declared.on_cluster else "a larger machine"
        yield f"they are not run: take a smaller batch_size, an exclude: line with this reason, or {larger}"
