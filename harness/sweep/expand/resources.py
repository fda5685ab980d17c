"""The resources of each cell: the cluster's defaults, changed by the entries of ``resources`` that match it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from harness.cell import Cell, get
from harness.errors import UserError, below, nearest
from harness.filters import Filter
from harness.store.submission import RunConfig
from harness.sweep.declare.compose import Declaration
from harness.sweep.declare.fields import read_filter
from harness.sweep.declare.limits import check_range


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
    entries = []
    for index, node in enumerate(declaration.experiment.resources):
        with below(f"resources[{index}]"):
            given = _entry(node)
            with below("where"):
                only = _filter(node["where"])
        entries.append((only, given))

    def of(cell: Cell) -> Resources:
        value_of = partial(get, cell)
        matching = [given for only, given in entries if only.matches(value_of)]
        return replace(default, **{key: value for given in matching for key, value in given.items()})

    return of if entries else lambda cell: default


def _filter(text: Any) -> Filter:
    only = read_filter(text)
    if "seed" in only.paths:
        what = "cells that differ only in their seed get the same resources"
        raise UserError(what, allowed="a filter without seed")
    return only


def _entry(node: Any) -> dict[str, Any]:
    example = "{where: batch_size>=1024, gpus: 2, nodes: 1, time: 120}"
    if not isinstance(node, Mapping) or "where" not in node or len(node) < 2:
        raise UserError("an entry of resources has 'where' and what is given", allowed=example)
    given = {}
    for name, value in node.items():
        if name == "where":
            continue
        with below(str(name)):
            if name not in KINDS:
                raise UserError(f"unknown key '{name}'{nearest(str(name), KINDS)}", allowed=", ".join(KINDS))
            if isinstance(value, bool) or not isinstance(value, int if KINDS[name] is int else int | float):
                raise UserError(f"{value!r} is not of type {KINDS[name].__name__}", allowed=example)
            check_range(f"cluster.{name}", value)
        given[str(name)] = KINDS[name](value)
    return given
