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
from harness.store.ledger import Policy

CONF = Path(__file__).parents[2] / "conf"

GROUPS = tuple(sorted(entry.name for entry in CONF.iterdir() if entry.is_dir() and entry.name != "__pycache__"))


@dataclass
class ClusterConfig:
    """Where cells run: ``scheduler`` is none (this machine) or slurm; ``device``: auto, cpu or cuda; ``micro_batch``:
    samples that a process passes through the network at a time (None: its whole share of the batch); ``compile``:
    whether torch compiles the networks.

    ``gpus``: processes of a cell on each of its ``nodes``, each with a GPU of its own, or with cores where there is
    none; ``ask_hours``: device-hours above which a sweep asks first.

    On this machine, ``slots``: cells at a time (None: as many as there are GPUs, or cores).

    On a cluster, ``time``: minutes that a job gets at a time; ``partition``, ``account``, ``qos``, ``constraint``: as
    sbatch takes them; ``cpus``: of each process; ``memory``: GiB of each node; ``gpu_type``: of ``--gpus-per-node``;
    ``throttle``: array tasks that run at once; ``max_jobs``: of one experiment in the queue; ``cells_per_job``: small
    cells that share a job, one after another; ``requeue``: whether an interrupted job goes back into the queue;
    ``grace``: seconds before its end that a job is warned; ``sbatch``: more options, by name; ``srun``: more arguments;
    ``python``: the command that runs Python there (a container's); ``setup``: lines before it; ``interface``: the
    network between nodes; ``stage``: a folder of each node that the images are copied to first.
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
        """Return the profile that a sweep wrote down; keys of other versions are passed over, absent ones get their
        defaults."""
        return cls(**{item.name: stored[item.name] for item in fields(cls) if item.name in stored})


@dataclass
class BudgetConfig:
    """What every cell may train: ``epochs``, or optimiser ``steps``."""

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
    """See ``harness.cell.Dataset``; ``root``, the folder of the images, and ``title``, what a report calls them, are no
    part of a cell's identity."""

    name: str = Dataset.name
    root: str | None = None
    title: str = ""


@dataclass
class EvaluateConfig(_Evaluation):  # type: ignore[misc, valid-type]
    """See ``harness.evaluation.Evaluation``."""


@dataclass
class Experiment:
    """What an experiment file declares besides the settings of its cells."""

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
    """Every key of an experiment file: the fields of a Cell, and those of ``Experiment``."""
