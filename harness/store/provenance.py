"""Which process began an attempt, when, with which code and on what: ``provenance.json``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.environment.job import SchedulerJob
from harness.environment.process import ProcessIdentity
from harness.store.submission import Submission
from harness.trees import Node


@dataclass(frozen=True)
class ComputeEnvironment:
    """The code and the hardware that computed something; a field is None where a file has no such key.

    ``revision`` of harness, ``dirty``: whether its files differed from that; ``source_hash`` and ``versions`` of what
    computes; ``scheduler``: the scheduler's job, None outside of one.
    """

    revision: str | None = None
    dirty: bool | None = None
    cell_id: str | None = None
    source_hash: str | None = None
    versions: dict[str, str] | None = None
    hardware: str | None = None
    threads: int | None = None
    scheduler: SchedulerJob | None = None

    def to_json(self) -> dict[str, Node]:
        """Return the environment under the keys of provenance.json."""
        content = {
            "revision": self.revision,
            "dirty": self.dirty,
            "cell_id": self.cell_id,
            "sources": self.source_hash,
            "versions": self.versions,
            "hardware": self.hardware,
            "threads": self.threads,
            "scheduler": vars(self.scheduler) if self.scheduler else {},
        }
        return {key: value for key, value in content.items() if value is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ComputeEnvironment:
        """Return the environment that provenance.json holds; what an older file lacks is None."""
        return cls(
            revision=content.get("revision"),
            dirty=content.get("dirty"),
            cell_id=content.get("cell_id"),
            source_hash=content.get("sources"),
            versions=content.get("versions"),
            hardware=content.get("hardware"),
            threads=content.get("threads"),
            scheduler=SchedulerJob.from_json(content.get("scheduler") or {}),
        )


@dataclass(frozen=True)
class Provenance:
    """How an attempt began: by default in this process and now."""

    submission: Submission = field(default_factory=Submission)
    environment: ComputeEnvironment = ComputeEnvironment()
    process: ProcessIdentity = field(default_factory=ProcessIdentity.current)
    started_at: float | None = field(default_factory=time.time)

    def to_json(self) -> dict[str, Node]:
        """Return the content of provenance.json."""
        return {
            **vars(self.process),
            "started": self.started_at,
            "submission": self.submission.to_json(),
            **self.environment.to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Provenance:
        """Return what a file holds; every key may be absent, as in records of earlier versions."""
        return cls(
            submission=Submission.from_json(content.get("submission") or {}),
            environment=ComputeEnvironment.from_json(content),
            process=ProcessIdentity.from_json(content),
            started_at=content.get("started"),
        )
