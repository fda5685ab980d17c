"""Whether a cluster does what its profile asks of it, for ``harness doctor cluster=NAME``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.environment.diagnosis import Diagnosis
from harness.errors import UserError, below, located
from harness.sweep.declare.limits import check_range
from harness.sweep.declare.schema import ClusterConfig
from harness.sweep.slurm.acceptance import Acceptance, Say, declared, profile
from harness.sweep.slurm.commands import Slurm
from harness.sweep.slurm.node_check import Probe
from harness.sweep.slurm.preflight import Checks

#: The least that shows whether nodes reach each other.
NODES = 2


def check_cluster(words: Sequence[str], results: Path, full: bool, say: Say) -> Iterator[Diagnosis]:
    """Yield what the scheduler offers, then what a small job sees, then, if ``full``, how a cell trains.

    Each part is checked only if all is well before it; ``say`` gets lines of progress.

    Raises:
        UserError: the profile is not allowed.
    """
    cluster = _profile(words)
    slurm = Slurm(lambda line: None)
    checks, well = Checks(cluster, slurm), True
    for diagnosis in checks.run():
        well &= not diagnosis.failed
        yield diagnosis
    if not well or checks.partition is None:
        return
    nodes = min(NODES, checks.partition.working)
    say(f"a job on {nodes} node{'s' if nodes > 1 else ''} of {checks.partition.name}, a minute at most")
    for diagnosis in Probe(cluster, nodes, results, slurm).run():
        well &= not diagnosis.failed
        yield diagnosis
    if not well or not full:
        return
    folder = results / "doctor" / time.strftime("%Y-%m-%d-%H%M%S")
    say(f"ten minutes at most, into {folder}/")
    yield from Acceptance(declared(words, nodes), folder, say).run()


def _profile(words: Sequence[str]) -> ClusterConfig:
    """Return the profile that the command line names, checked as for a sweep.

    Raises:
        UserError: the profile is not allowed, or is that of a machine without a scheduler.
    """
    example = "harness doctor cluster=NAME cluster.KEY=VALUE"
    for word in words:
        if not word.startswith(("cluster=", "cluster.")):
            raise UserError(f"doctor takes a cluster and its keys, not '{word}'", where="command line", allowed=example)
    if not any(word.startswith("cluster=") for word in words):
        raise UserError("no cluster is named", where="command line", allowed=example)
    cluster = profile(words).cluster
    for key, value in vars(cluster).items():
        if value is not None:
            with located(lambda key: f"command line: {key}"), below(f"cluster.{key}"):
                check_range(f"cluster.{key}", value)
    if cluster.scheduler == "none":
        raise UserError(
            "this cluster is the present machine",
            where="cluster.scheduler",
            allowed="slurm",
            next_command="harness doctor",
        )
    return cluster
