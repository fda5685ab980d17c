"""How an attempt ended, as ``outcome.json`` holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from harness.evaluation import Evaluation
from harness.store.checksum import Checksum
from harness.trees import Node

#: How an attempt can end.
STATES = ("finished", "failed", "interrupted")


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    ``state``: finished, failed or interrupted; ``cause`` and ``error``: why it failed or was interrupted.

    The other fields are those of a finished attempt: ``metrics`` in per cent under the settings of ``evaluation``,
    ``peak_lr``: the highest learning rate, ``dropped``: images left out of each epoch, ``train_seconds`` without and
    ``seconds`` with evaluation over all attempts, ``joules`` by source where counters of energy could be read.

    ``files``: the checksums of the weights and of the curve, by their paths in the record; outcomes of earlier versions
    have none. ``notes``: which damaged files the attempt had to do without.
    """

    state: str
    attempt: int = 0
    cause: str = ""
    error: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    steps: int = 0
    peak_lr: float = 0.0
    dropped: int = 0
    world_size: int = 1
    train_seconds: float = 0.0
    seconds: float = 0.0
    joules: dict[str, float] = field(default_factory=dict)
    files: dict[str, Checksum] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether the attempt has trained and evaluated the cell."""
        return self.state == "finished"

    @property
    def failed(self) -> bool:
        """Whether the attempt ended by an error."""
        return self.state == "failed"

    @property
    def reason(self) -> str:
        """Return the cause in a word; the state where there is none."""
        return self.cause or self.state

    def to_json(self) -> dict[str, Node]:
        """Return the content of outcome.json: only the keys that belong to the state."""
        content: dict[str, Node] = {"attempt": self.attempt, "state": self.state}
        if self.failed:
            return {**content, "error": self.error, "cause": self.cause}
        if not self.finished:
            return {**content, "cause": self.cause}
        return {
            **content,
            "metrics": self.metrics,
            **({"evaluation": dict(vars(self.evaluation))} if self.evaluation else {}),
            "steps": self.steps,
            "peak_lr": self.peak_lr,
            "dropped": self.dropped,
            "world_size": self.world_size,
            "train_seconds": self.train_seconds,
            "seconds": self.seconds,
            **({"joules": self.joules} if self.joules else {}),
            **({"files": {name: str(checksum) for name, checksum in self.files.items()}} if self.files else {}),
            **({"notes": self.notes} if self.notes else {}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Outcome:
        """Return the outcome that a file holds; only ``state`` must be there."""
        known = {name: content[name] for name in _NAMES if name in content}
        settings, metrics = content.get("evaluation"), content.get("metrics", {})
        if known["state"] not in STATES or not all(isinstance(value, float | int) for value in metrics.values()):
            raise ValueError("it is no outcome")
        files = {name: Checksum.parse(text) for name, text in content.get("files", {}).items()}
        evaluation = Evaluation.from_json(settings) if settings else None
        return cls(**{**known, "evaluation": evaluation, "files": files})


_NAMES = tuple(item.name for item in fields(Outcome))
