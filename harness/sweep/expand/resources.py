"""The resources of each cell: the cluster's defaults, changed by the entries of ``resources`` that match it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from harness.cell import Cell, from_dict, get
from harness.errors import UserError, below, nearest
from harness.filters import Filter
from harness.store.submission import RunConfig
from harness.sweep.declare.compose import Declaration
from harness.sweep.declare.fields import read_filter
from harness.sweep.declare.limits import check_range
from harness.trees import Node


@dataclass(frozen=True)
class Resources:
    """The hardware and the time of one cell.

    ``gpus``: processes of the cell on each of its ``nodes``; ``time``: the minutes that a scheduler grants;
    ``micro_batch``: samples that a process passes through the network at a time (None: its whole share).
    """

    gpus: int
    nodes: int
    time: float | None
    micro_batch: int | None = None

    @property
    def world_size(self) -> int:
        """The number of ranks of a cell, one for each GPU."""
        return self.gpus * self.nodes

    def micro_batch_of(self, cell: Cell) -> int | None:
        """Return the micro-batch, or None if the share of a process is not larger."""
        smaller = self.micro_batch is not None and self.micro_batch < cell.batch_size // self.world_size
        return self.micro_batch if smaller else None

    def run_config(self, common: RunConfig, cell: Cell) -> RunConfig:
        """Return how the cell is run: ``common`` settings of all cells, on these resources."""
        return replace(common, world_size=self.world_size, micro_batch=self.micro_batch_of(cell))


KINDS: dict[str, type[Any]] = {"gpus": int, "nodes": int, "time": float, "micro_batch": int}


def resources(declaration: Declaration) -> Callable[[Cell], Resources]:
    """Return a function from a cell to its resources; if several entries match, later keys win.

    Raises:
        UserError: an entry without a filter, or with a key or value that is not allowed.
    """
    cluster = declaration.cluster
    default = Resources(cluster.gpus, cluster.nodes, cluster.time, cluster.micro_batch)
    entries = _entries(declaration)

    def resources_of(cell: Cell) -> Resources:
        value_of, values = partial(get, cell), dict(vars(default))
        for only, changes in entries:
            if only.matches(value_of):
                values |= changes
        return from_dict(Resources, values)

    return resources_of if entries else lambda cell: default


def set_for_every(cells: Collection[Cell], declaration: Declaration) -> set[str]:
    """Return the keys that entries of ``resources`` set for every cell, so that the cluster's value has no effect."""
    entries = _entries(declaration)
    return {
        name
        for name in {name for _, changes in entries for name in changes}
        if all(any(name in changes and only.matches(partial(get, cell)) for only, changes in entries) for cell in cells)
    }


def _entries(declaration: Declaration) -> list[tuple[Filter, dict[str, float]]]:
    """Return the filter of each entry of ``resources``, and what it gives to the cells that match."""
    entries = []
    for index, node in enumerate(declaration.experiment.resources):
        with below(f"resources[{index}]"):
            changes = _changes(node)
            with below("where"):
                only = _filter(node["where"])
        entries.append((only, changes))
    return entries


def _filter(text: Node) -> Filter:
    only = read_filter(text)
    if "seed" in only.paths:
        what = "cells that differ only in their seed get the same resources"
        raise UserError(what, allowed="a filter without seed")
    return only


def _changes(node: Node) -> dict[str, float]:
    """Return the values that an entry gives to the cells that it matches."""
    example = "{where: batch_size>=1024, gpus: 2, nodes: 1, time: 120}"
    if not isinstance(node, Mapping) or "where" not in node or len(node) < 2:
        raise UserError("an entry of resources has 'where' and what is given", allowed=example)
    changes: dict[str, float] = {}
    for name, value in node.items():
        if name == "where":
            continue
        with below(str(name)):
            if name not in KINDS:
                raise UserError(f"unknown key '{name}'{nearest(str(name), KINDS)}", allowed=", ".join(KINDS))
            whole = KINDS[name] is int
            if isinstance(value, bool) or not isinstance(value, int | float) or (whole and isinstance(value, float)):
                raise UserError(f"{value!r} is not of type {KINDS[name].__name__}", allowed=example)
            check_range(f"cluster.{name}", value)
        changes[str(name)] = value
    return changes
