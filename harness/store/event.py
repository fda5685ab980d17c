"""A line of ``events.jsonl``: the metrics of an attempt at one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.files import JsonValue


@dataclass(frozen=True)
class Event:
    """The metrics at a step of the optimiser; ``epoch``: how many epochs were complete, ``time``: the Unix time."""

    step: int
    metrics: Mapping[str, float]
    epoch: int | None = None
    time: float | None = None

    def to_json(self) -> dict[str, JsonValue]:
        content = {"time": self.time, "step": self.step, "epoch": self.epoch, "metrics": self.metrics}
        return {key: value for key, value in content.items() if value is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Event:
        """Return the event that a line holds; ``epoch`` and ``time`` may be absent."""
        return cls(content["step"], content["metrics"], content.get("epoch"), content.get("time"))
