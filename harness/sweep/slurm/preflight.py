"""Checks of a cluster that need no job: does Slurm offer what the profile asks for?

Every failed check names the key of the profile that fixes it. Nothing here starts a job; that is the business of
``harness.sweep.slurm.node_check``.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.environment.diagnosis import Diagnosis
from harness.environment.user import user_name
from harness.errors import UserError, nearest
from harness.sweep.declare.schema import ClusterConfig
from harness.sweep.expand.resources import Resources
from harness.sweep.slurm.commands import Profile, Slurm, Unreachable, outside_of_jobs, refused

COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "sinfo", "scancel", "sacct")
#: The states of nodes that run jobs, or will; a suffix says that they sleep, are planned for a job, ...
WORKING = ("idle", "mixed", "allocated", "completing", "planned", "reserved")
#: The columns of sinfo: partition, the same with a star if it is the default, whether it is up, longest time; then, for
#: a group of equal nodes: how many, state, cores, MB, GPUs.
SINFO = "%R|%P|%a|%l|%D|%T|%c|%m|%G"
#: The fix of a check that the profile cannot change.
ADMINISTRATORS = "nothing in the profile; ask the cluster's administrators for"


@dataclass(frozen=True)
class Nodes:
    """Equal nodes of a partition; ``gpus`` has the number of GPUs by type, "" for GPUs without a type."""

    count: int
    state: str
    cpus: int
    memory: int
    gpus: Mapping[str, int]

    @property
    def working(self) -> bool:
        """Whether the nodes take jobs and answer."""
        return self.state.startswith(WORKING) and not self.state.endswith("*")

    def gpus_of(self, kind: str | None) -> int:
        """Return how many GPUs of this type each node has; None asks for GPUs of any type."""
        return self.gpus.get(kind, 0) if kind else sum(self.gpus.values())


@dataclass(frozen=True)
class Partition:
    """A partition of the cluster; ``minutes`` is the longest time of a job, None if there is no limit."""

    name: str
    default: bool
    up: bool
    minutes: float | None
    nodes: list[Nodes]

    @property
    def working(self) -> int:
        """The number of nodes that run jobs, or will."""
        return sum(group.count for group in self.nodes if group.working)


def partitions(output: str) -> dict[str, Partition]:
    """Read the partitions from the lines of sinfo."""
    found: dict[str, Partition] = {}
    for line in output.splitlines():
        name, starred, avail, limit, count, state, cpus, memory, gres = line.split("|", 8)
        part = found.setdefault(name, Partition(name, starred.endswith("*"), avail == "up", minutes(limit), []))
        gpus: dict[str, int] = {}
        for kind, number in re.findall(r"\bgpu(?::([^:,()]+))?:(\d+)(?=[(,]|$)", gres):
            gpus[kind] = gpus.get(kind, 0) + int(number)
        part.nodes.append(Nodes(int(count), state, _number(cpus), _number(memory), gpus))
    return found


def _number(text: str) -> int:
    """Read ``4``, or ``4+`` for nodes that differ."""
    return int(text.rstrip("+"))


def minutes(limit: str) -> float | None:
    """Read a time limit such as ``2-00:00:00``, ``1:00:00`` or ``30:00``; return None for no limit."""
    if not re.fullmatch(r"(\d+-)?(\d+:)*\d+", limit):
        return None
    days, _, clock = limit.rpartition("-")
    fields = [int(field) for field in clock.split(":")]
    hours, mins, seconds = [0] * (3 - len(fields)) + fields
    return 1440 * int(days or 0) + 60 * hours + mins + seconds / 60


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{'' if number == 1 else plural}"


class Checks:
    """The checks of one profile; ``partition`` is the profile's partition once it is found."""

    def __init__(self, cluster: ClusterConfig, slurm: Slurm) -> None:
        self.cluster, self.slurm = cluster, slurm
        self.partition: Partition | None = None

    def run(self) -> Iterator[Diagnosis]:
        """Yield the checks one after another; stop after a failed one, on which the next ones depend."""
        for check in (self._commands, self._controller, self._profile, self._partition, self._nodes, self._settings,
                    self._accounting, self._accepted):  # fmt: skip
            stop = False
            try:
                for diagnosis in check():
                    yield diagnosis
                    stop |= diagnosis.failed
            except Unreachable as why:
                yield Diagnosis("Slurm", str(why), "harness doctor again, once Slurm answers")
                stop = True
            if stop:
                return

    def _commands(self) -> Iterator[Diagnosis]:
        if missing := [name for name in COMMANDS if shutil.which(name) is None]:
            fix = "the same command on a login node of the cluster, or cluster.scheduler=none"
            yield Diagnosis("Slurm", f"not on this machine: {', '.join(missing)}", fix)
        elif (conf := os.environ.get("SLURM_CONF")) and not Path(
            conf
        ).is_file():  # Slurm would look for it for a minute
            yield Diagnosis("Slurm", f"there is no {conf}", "unset SLURM_CONF, which names it, or the right path there")

    def _controller(self) -> Iterator[Diagnosis]:
        with suppress(Unreachable):
            answer = self.slurm.ask("scontrol", "ping")
            if up := re.search(r"at (\S+) is UP", answer):
                version = self.slurm.ask("sinfo", "-V").split()[-1]
                yield Diagnosis("Slurm", f"{version}, its controller on {up[1]} answers")
                return
        yield Diagnosis(
            "Slurm", "its controller does not answer (scontrol ping)", f"{ADMINISTRATORS} slurmctld, or wait"
        )

    def _profile(self) -> Iterator[Diagnosis]:
        """Check the keys that this machine cannot guess for a cluster."""
        if self.cluster.device == "auto":
            yield Diagnosis("device", "auto: what nodes have cannot be seen from here", "cluster.device=cuda, or cpu")
        if not self.cluster.time:
            yield Diagnosis("time", "a cluster's jobs need a time limit", "cluster.time=MINUTES, such as 240")

    def _partition(self) -> Iterator[Diagnosis]:
        found = partitions(self.slurm.ask("sinfo", "-h", "-a", "-e", "-o", SINFO))
        wanted = self.cluster.partition
        name = wanted.split(",")[0] if wanted else next((part.name for part in found.values() if part.default), "")
        if name not in found:
            what = f"there is no '{name}'{nearest(name, found)}" if wanted else "the cluster has no default"
            yield Diagnosis("partition", what, f"cluster.partition=NAME, of {', '.join(sorted(found))}")
            return
        part = self.partition = found[name]
        if not part.up:
            yield Diagnosis("partition", f"{name} takes no jobs now", "cluster.partition=ANOTHER, or wait")
            return
        longest = "of any length" if part.minutes is None else f"of up to {part.minutes:g} minutes"
        total = sum(group.count for group in part.nodes)
        yield Diagnosis("partition", f"{name}{'' if wanted else ', the default'}: {total} nodes, jobs {longest}")
        asked = self.cluster.time or 0
        if part.minutes is not None and asked > part.minutes:
            what = f"jobs ask for {asked:g} minutes, {name} allows {part.minutes:g}"
            yield Diagnosis("time", what, f"cluster.time={part.minutes:g}; a longer cell goes on in its next job")

    def _nodes(self) -> Iterator[Diagnosis]:
        assert self.partition
        cluster, nodes = self.cluster, [group for group in self.partition.nodes if group.working]
        if not nodes:
            states = ", ".join(sorted({group.state for group in self.partition.nodes}))
            yield Diagnosis("nodes", f"none of {self.partition.name} works ({states})", "cluster.partition=ANOTHER")
            return
        cores, memory = cluster.gpus * cluster.cpus, 1024 * (cluster.memory or 0)
        gpus = cluster.gpus if cluster.device == "cuda" else 0
        kind = cluster.gpu_type if gpus else None
        most = {
            "cores": max(group.cpus for group in nodes),
            "memory": max(group.memory for group in nodes),
            "gpus": max(group.gpus_of(kind) for group in nodes),
        }
        failed = list(self._too_much(most, cores, memory, gpus))
        yield from failed
        if failed:
            return
        fitting = sum(
            group.count
            for group in nodes
            if group.cpus >= cores and group.memory >= memory and group.gpus_of(kind) >= gpus
        )
        asked = _count(cores, "core") + (f", {memory / 1024:g} GiB" if memory else "")
        asked += f", {_count(gpus, 'GPU')}{f' ({kind})' if kind else ''}" if gpus else ""
        if fitting < cluster.nodes:
            what = f"a cell asks for {cluster.nodes}; {fitting} work and have {asked}"
            yield Diagnosis("nodes", what, f"cluster.nodes={max(1, fitting)}, or cluster.partition=ANOTHER")
            return
        yield Diagnosis("nodes", f"{fitting} of {self.partition.name} work and have what a job asks of each: {asked}")

    def _too_much(self, most: Mapping[str, int], cores: int, memory: float, gpus: int) -> Iterator[Diagnosis]:
        """Check the cores, memory and GPUs of a job against ``most``, the largest that any node has."""
        cluster = self.cluster
        if cores > most["cores"]:
            what = f"a job asks for {_count(cores, 'core')} of a node (cpus x gpus), the largest has {most['cores']}"
            fix = f"cluster.cpus={max(1, most['cores'] // cluster.gpus)}, or fewer cluster.gpus and more nodes"
            yield Diagnosis("cores", what, fix)
        if memory > most["memory"]:
            what = f"a job asks for {memory / 1024:g} GiB of a node, the largest has {most['memory'] / 1024:.4g}"
            yield Diagnosis("memory", what, f"cluster.memory={most['memory'] * 0.95 / 1024:.1f}")
        if gpus > most["gpus"]:
            kind = f" of type {cluster.gpu_type}" if cluster.gpu_type else ""
            types = {name for group in self.partition.nodes for name in group.gpus if name} if self.partition else set()
            fix = f"cluster.gpus={most['gpus']}" if most["gpus"] else "cluster.device=cpu, or cluster.partition=ANOTHER"
            if cluster.gpu_type and types - {cluster.gpu_type}:
                fix += f"; or cluster.gpu_type, of {', '.join(sorted(types))}"
            yield Diagnosis("GPUs", f"a job asks for {gpus} of a node{kind}, the largest has {most['gpus']}", fix)

    def _accepted(self) -> Iterator[Diagnosis]:
        """Let Slurm judge the batch script of a sweep without queueing it."""
        cluster = self.cluster
        resources = Resources(cluster.gpus, cluster.nodes, cluster.time)
        with tempfile.TemporaryDirectory() as folder, outside_of_jobs():
            script = Path(folder) / "script.sh"
            script.write_text(Profile(cluster, Path(folder)).script("harness-doctor", "not queued", 1, resources))
            try:
                self.slurm.ask("sbatch", "--test-only", str(script))
            except Unreachable as why:
                refusal = refused(str(why))
                if not isinstance(refusal, UserError):
                    raise refusal from None
                yield Diagnosis("a job", refusal.what, f"change {refusal.where}")
                return
        per_node = _count(resources.gpus, "process", "es")
        yield Diagnosis("a job", f"Slurm would take it: {_count(resources.nodes, 'node')}, {per_node} on each")

    def _settings(self) -> Iterator[Diagnosis]:
        yield Diagnosis("arrays", f"of up to {self._config.get('MaxArraySize', '1001')} jobs")
        yield self._requeue(self._config)
        yield self._preemption(self._config)

    @cached_property
    def _config(self) -> dict[str, str]:
        lines = self.slurm.ask("scontrol", "show", "config").splitlines()
        return {key.strip(): value.strip() for key, equals, value in (line.partition("=") for line in lines) if equals}

    def _requeue(self, config: Mapping[str, str]) -> Diagnosis:
        if not self.cluster.requeue:
            what = "off in the profile: an interrupted cell waits for the next harness sweep"
            return Diagnosis("requeue", what, "cluster.requeue=true, if the cluster allows it", needed=False)
        if config.get("JobRequeue") == "0":
            return Diagnosis("requeue", "jobs ask for it (it is not the cluster's default)")
        return Diagnosis("requeue", "an interrupted job goes back into the queue, and on from its checkpoint")

    def _preemption(self, config: Mapping[str, str]) -> Diagnosis:
        mode = config.get("PreemptMode", "OFF")
        if mode == "OFF":
            return Diagnosis("preemption", "there is none")
        if "preempt_send_user_signal" in config.get("SlurmctldParameters", ""):
            return Diagnosis("preemption", f"{mode}; jobs are warned, and write a checkpoint")
        what = f"{mode}, without a warning: work since the last checkpoint (an epoch, or 30 seconds) may be lost"
        fix = f"{ADMINISTRATORS} SlurmctldParameters=preempt_send_user_signal"
        return Diagnosis("preemption", what, fix, needed=False)

    def _accounting(self) -> Iterator[Diagnosis]:
        try:
            self.slurm.ask("sacct", "-X", "-n", "-P", "-S", "now", "-o", "JobID")
        except Unreachable as why:
            what = f"{why}. Jobs are known while they are in the queue; how a killed job ended is not"
            yield Diagnosis("accounting", what, f"{ADMINISTRATORS} slurmdbd", needed=False)
            return
        yield Diagnosis("accounting", "sacct answers")
        try:
            lines = self.slurm.ask("sacctmgr", "-n", "-P", "show", "assoc", f"user={user_name()}",
                                   "format=account,qos").splitlines()  # fmt: skip
        except (Unreachable, UserError):  # a cluster may hide this; Slurm has accepted the job above
            return
        accounts = dict.fromkeys(line.partition("|")[0] for line in lines)
        qualities = dict.fromkeys(name for line in lines for name in line.partition("|")[2].split(",") if name)
        for key, value, known, rule in (
            ("account", self.cluster.account, accounts, "associations"),
            ("qos", self.cluster.qos, qualities, "qos"),
        ):
            enforced = rule in self._config.get("AccountingStorageEnforce", "")
            if value is None:
                continue
            if value in known:
                yield Diagnosis(key, f"{value} is one of yours")
            else:
                what = f"'{value}' is none of yours{nearest(value, known)}"
                yield Diagnosis(key, what, f"cluster.{key}=NAME, of {', '.join(known) or 'none'}", needed=enforced)
