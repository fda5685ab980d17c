"""How far a running attempt is: the content of its heartbeat file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class TrainingProgress:
    """How far a running attempt is, in steps; ``epoch`` is the present one, from 0, ``rate``: samples per second.

    The fields are the keys of the file.
    """

    step: int
    steps: int
    epoch: int
    rate: float

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrainingProgress:
        return cls(**{item.name: content[item.name] for item in fields(cls)})

    def seconds_left(self, batch_size: int) -> float:
        return (self.steps - self.step) * batch_size / self.rate
