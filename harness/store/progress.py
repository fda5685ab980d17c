"""What an attempt reports while it trains: its progress, and the events of its learning curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from harness.trees import Node


@dataclass(frozen=True)
class TrainingProgress:
    """How far a running attempt is, in steps; ``epoch`` is the present one, from 0, ``rate``: samples per second.

    The fields are the keys of the heartbeat file.
    """

    step: int
    steps: int
    epoch: int
    rate: float

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrainingProgress:
        """Return the progress that a heartbeat's file holds; KeyError where one of its keys is missing."""
        return cls(**{item.name: content[item.name] for item in fields(cls)})

    def seconds_left(self, batch_size: int) -> float:
        """Return the seconds that the remaining steps take at the present rate."""
        return (self.steps - self.step) * batch_size / self.rate


@dataclass(frozen=True)
class Event:
    """The metrics at a step of the optimiser, a line of ``events.jsonl``.

    ``epoch``: how many epochs were complete; ``time``: the Unix time.
    """

    step: int
    metrics: Mapping[str, float]
    epoch: int | None = None
    time: float | None = None

    def to_json(self) -> dict[str, Node]:
        """Return the event as a line of events.jsonl has it, without what is None."""
        content = {"time": self.time, "step": self.step, "epoch": self.epoch, "metrics": self.metrics}
        return {key: value for key, value in content.items() if value is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Event:
        """Return the event that a line holds; ``epoch`` and ``time`` may be absent."""
        return cls(content["step"], content["metrics"], content.get("epoch"), content.get("time"))
