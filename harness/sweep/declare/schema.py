"""The schema of an experiment file."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from harness.cell import Cell, Dataset
from harness.evaluation import Evaluation
from harness.store.sweeps.ledger import Policy

CONF = Path(__file__).parents[2] / "conf"

GROUPS = tuple(sorted(entry.name for entry in CONF.iterdir() if entry.is_dir() and entry.name != "__pycache__"))


@dataclass
class ClusterConfig:
    """A cluster profile: the machine that cells run on, and how.

    Attributes:
        scheduler: the software that jobs are submitted to; none on this machine.
        device: auto, cpu or cuda.
        gpus: processes of a cell on each of its nodes; each has one GPU, or some cores if the device is the CPU.
        nodes: nodes of a cell.
        micro_batch: samples that a process passes through the network at a time (None: its share of the batch).
        compile: whether torch compiles the networks.
        ask_hours: device-hours above which a sweep asks for confirmation.
        slots: on this machine, cells that run at a time (None: as many as there are GPUs, or cores).
        time: on a cluster, minutes of a job; a cell that needs more continues in its next job.
        partition, account, qos, constraint: options of sbatch.
        cpus: cores of each process.
        memory: GiB of each node.
        gpu_type: type in ``--gpus-per-node``.
        throttle: array tasks that run at a time.
        max_jobs: cells of one experiment in the queue.
        cells_per_job: small cells that share a job, one after another.
        requeue: whether an interrupted job goes back into the queue.
        grace: seconds between the warning of a job and its end.
        sbatch: more options of sbatch, by their names.
        srun: more arguments of srun.
        python: the command that runs Python on the nodes, for example in a container.
        setup: shell lines before that command.
        interface: the network interface between nodes.
        stage: a folder of each node that the images are copied to first.
    """

    scheduler: str = "none"
    slots: int | None = None
    device: str = "auto"
    gpus: int = 1
    nodes: int = 1
    micro_batch: int | None = None
    compile: bool = False
    time: float | None = None
    ask_hours: float = 12.0
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    cpus: int = 1
    memory: float | None = None
    gpu_type: str | None = None
    throttle: int | None = None
    max_jobs: int | None = None
    cells_per_job: int = 1
    requeue: bool = True
    grace: int = 90
    sbatch: dict[str, Any] = field(default_factory=dict)
    srun: list[str] = field(default_factory=list)
    python: str | None = None
    setup: list[str] = field(default_factory=list)
    interface: str | None = None
    stage: str | None = None

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ClusterConfig:
        """Return a stored profile; unknown keys are ignored, and absent keys get their defaults."""
        return cls(**{item.name: stored[item.name] for item in fields(cls) if item.name in stored})


@dataclass
class BudgetConfig:
    """The length of training of every cell: ``epochs``, or optimiser ``steps``."""

    epochs: int | None = None
    steps: int | None = None


def _mutable(cls: type[Any]) -> type[Any]:
    """Return the same dataclass for OmegaConf, which makes frozen ones read-only; derived fields are left out."""
    hints = typing.get_type_hints(cls)
    members: list[tuple[str, Any, Any]] = []
    for item in fields(cls):
        hint = hints[item.name]
        if item.metadata.get("derived"):
            continue
        if is_dataclass(hint):
            mutable = _mutable(typing.cast("type[Any]", hint))
            members.append((item.name, mutable, field(default_factory=mutable)))
        elif item.name == "own":  # an override can add a key to an empty mapping, not to None
            members.append((item.name, dict[str, float], field(default_factory=dict)))
        elif bool in (hint, *typing.get_args(hint)):  # OmegaConf would take 3 for true; ``check_value`` does not
            members.append((item.name, Any, item.default))
        else:
            members.append((item.metadata.get("key", item.name), hint, item.default))
    return dataclasses.make_dataclass(cls.__name__, members)


_Dataset = _mutable(Dataset)

_Evaluation = _mutable(Evaluation)

_Settings = _mutable(Cell)

_Failures = _mutable(Policy)


@dataclass
class DatasetConfig(_Dataset):  # type: ignore[misc, valid-type]
    """The data set of all cells, see ``harness.cell.Dataset``.

    ``root``, the folder of the images, and ``title``, their name in a report, are no part of a cell's identity.
    """

    name: str = Dataset.name
    root: str | None = None
    title: str = ""


@dataclass
class EvaluateConfig(_Evaluation):  # type: ignore[misc, valid-type]
    """The evaluation of all cells, see ``harness.evaluation.Evaluation``."""


@dataclass
class Experiment:
    """The keys of an experiment file besides the fields of a Cell.

    Any stands for ``harness.trees.Node``, which OmegaConf cannot express; the reader of each key checks its form.
    """

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    failures: _Failures = field(default_factory=_Failures)  # type: ignore[valid-type]
    resources: list[Any] = field(default_factory=list)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    title: str = ""
    question: str = ""
    caveat: str = ""
    comparable: bool = True
    scale: str = ""
    axes: dict[str, Any] = field(default_factory=dict)
    zip: list[Any] = field(default_factory=list)
    grids: dict[str, Any] = field(default_factory=dict)
    when: dict[str, Any] = field(default_factory=dict)
    derive: dict[str, Any] = field(default_factory=dict)
    exclude: list[Any] = field(default_factory=list)
    include: list[Any] = field(default_factory=list)
    scales: dict[str, Any] = field(default_factory=dict)
    claims: list[Any] = field(default_factory=list)


@dataclass
class ExperimentSchema(Experiment, _Settings):  # type: ignore[misc, valid-type]
    """The keys of an experiment file: the fields of a Cell, and those of ``Experiment``."""
