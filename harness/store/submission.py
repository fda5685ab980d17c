"""CONTRACT 4. A Submission is how a cell was last handed to a machine or a scheduler: what both wings share.

The sweep writes it into the record as ``submission.json`` before anything starts; the process that computes the cell
reads it there. ``to_json`` and ``from_json`` are the only places that know the keys of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.evaluation import Evaluation
from harness.trees import Node


@dataclass(frozen=True)
class RunConfig:
    """How the cell is computed, without changing what is computed.

    ``threads`` of each of its ``world_size`` processes; ``device``: cpu or cuda; ``root``: the folder of the images;
    ``micro_batch``: samples that a process passes through the network at a time, None for all that it holds;
    ``memory``: bytes that the whole cell needs, 0 where that is unknown; ``source_hash``: of the code that must compute
    it, empty where any code may.
    """

    threads: int = 1
    device: str = "cpu"
    root: str | None = None
    evaluation: Evaluation = field(default_factory=Evaluation)
    compile: bool = False
    plugins: tuple[str, ...] = ()
    world_size: int = 1
    micro_batch: int | None = None
    memory: int = 0
    source_hash: str = ""

    def to_json(self) -> dict[str, Node]:
        """Return the configuration under the keys of submission.json."""
        return {
            "threads": self.threads,
            "device": self.device,
            "compile": self.compile,
            "plugins": list(self.plugins),
            "root": self.root,
            "evaluation": dict(vars(self.evaluation)),
            "world_size": self.world_size,
            "micro_batch": self.micro_batch,
            "memory": self.memory,
            **({"sources": self.source_hash} if self.source_hash else {}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunConfig:
        """Return the configuration that submission.json holds; a missing key means what it meant before it existed."""
        return cls(
            threads=content.get("threads", 1),
            device=content.get("device", "cpu"),
            root=content.get("root"),
            evaluation=Evaluation.from_json(content.get("evaluation", {})),
            compile=bool(content.get("compile", False)),
            plugins=tuple(content.get("plugins", ())),
            world_size=content.get("world_size", 1),
            micro_batch=content.get("micro_batch"),
            memory=content.get("memory", 0),
            source_hash=content.get("sources", ""),
        )


@dataclass(frozen=True)
class Allocation:
    """What a cluster was asked for: ``minutes``: the time limit; ``grace_seconds``: how long before it a job is warned;
    ``stage_folder``: a folder on the node's own disk that the images are copied to."""

    nodes: int
    minutes: float
    grace_seconds: float
    stage_folder: str | None = None

    def to_json(self) -> dict[str, Node]:
        """Return the allocation under the keys of submission.json."""
        return {
            "nodes": self.nodes,
            "time": self.minutes,
            "grace": self.grace_seconds,
            "stage": self.stage_folder,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Allocation | None:
        """The allocation; None in the submission of a cell that runs on this machine."""
        if "time" not in content:
            return None
        return cls(content.get("nodes", 1), content["time"], content.get("grace", 0), content.get("stage"))


@dataclass(frozen=True)
class Submission:
    """How a cell was last submitted: ``sweep``: the folder of the sweep's ledger; ``batch``: the number of its job
    array; ``attempts_before``: how many attempts the record had then; ``withdrawn_at``: when it was taken back."""

    run: RunConfig = RunConfig()
    allocation: Allocation | None = None
    experiment: str = ""
    scale: str = ""
    sweep: str = ""
    batch: int | None = None
    submitted_at: float | None = None
    attempts_before: int | None = None
    withdrawn_at: float | None = None

    @property
    def withdrawn(self) -> bool:
        """Whether the cell was taken back before it began."""
        return self.withdrawn_at is not None

    def to_json(self) -> dict[str, Node]:
        """Return the content of submission.json."""
        known = {
            "experiment": self.experiment or None,
            "scale": self.scale or None,
            "sweep": self.sweep or None,
            "batch": self.batch,
            "submitted": self.submitted_at,
            "attempts_before": self.attempts_before,
            "withdrawn": self.withdrawn_at,
        }
        return {
            **self.run.to_json(),
            **(self.allocation.to_json() if self.allocation else {}),
            **{key: value for key, value in known.items() if value is not None},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Submission:
        """The submission that a file holds; every key may be absent, as in records of earlier versions."""
        return cls(
            run=RunConfig.from_json(content),
            allocation=Allocation.from_json(content),
            experiment=content.get("experiment", ""),
            scale=content.get("scale", ""),
            sweep=content.get("sweep", ""),
            batch=content.get("batch"),
            submitted_at=content.get("submitted"),
            attempts_before=content.get("attempts_before"),
            withdrawn_at=content.get("withdrawn"),
        )
