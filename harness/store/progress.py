"""What an attempt reports while it trains: its progress, and the events of its learning curve."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import DamagedFile
from harness.files import sync
from harness.store.checksum import Checksum, unreadable
from harness.trees import Node


@dataclass(frozen=True)
class TrainingProgress:
    """How far a running attempt is, in steps; ``epoch`` is the present one, from 0, ``rate``: samples per second.

    ``waits``: the seconds since the last step. The fields are the keys of the heartbeat file; heartbeats of before have
    no ``waits``.
    """

    step: int
    steps: int
    epoch: int
    rate: float
    waits: float = 0.0

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrainingProgress:
        """Return the progress that a heartbeat's file holds; KeyError where one of its keys is missing."""
        waits = content.get("waits", 0.0)
        return cls(content["step"], content["steps"], content["epoch"], content["rate"], waits)

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


def append_event(file: Path, event: Event) -> bytes:
    """Append a line to the file of a curve, and return it: its writer keeps the checksum of what it has written.

    The line is on the disk then, so that no checkpoint knows of an event that a power cut takes away.
    """
    line = f"{json.dumps(event.to_json())}\n".encode()
    with file.open("ab") as opened:
        opened.write(line)
        opened.flush()
        sync(opened)
    return line


def read_events(file: Path, vouched: Checksum | None = None) -> Iterator[Event]:
    """Yield the events of complete lines: a kill may tear the last line. No file has no events.

    ``vouched``: what the file must begin with, where that is known; then the rest of it does not count.

    Raises:
        DamagedFile: the file cannot be read, or does not begin so.
    """
    try:
        written = file.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError) and vouched is None:
            return
        raise unreadable(file, error) from None
    if vouched:
        beginning = written[: vouched.length]
        if Checksum().extended(beginning) != vouched:
            raise DamagedFile(file, vouched.mismatch(len(written)))
        written = beginning
    for line in written.decode(errors="replace").split("\n")[:-1]:
        try:
            content = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(content, dict) and {"step", "metrics"} <= content.keys():
            if not (isinstance(content["step"], int) and isinstance(content["metrics"], dict)):
                raise DamagedFile(file, f"a line is no event: {line[:80]}")
            yield Event.from_json(content)
