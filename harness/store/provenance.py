"""Which process began an attempt, when, with which code and on what: ``provenance.json``, as it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.environment.job import SchedulerJob
from harness.environment.process import ProcessIdentity
from harness.store.submission import Submission


@dataclass(frozen=True)
class Provenance:
    """``revision``: of harness, empty where it is unknown; ``scheduler``: the scheduler's job, None outside of one."""

    process: ProcessIdentity
    submission: Submission
    started_at: float | None = None
    revision: str = ""
    scheduler: SchedulerJob | None = None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Provenance:
        """Return what a file holds; every key may be absent, as in records of earlier versions."""
        return cls(
            process=ProcessIdentity.from_json(content),
            submission=Submission.from_json(content.get("submission") or {}),
            started_at=content.get("started"),
            revision=content.get("revision") or "",
            scheduler=SchedulerJob.from_json(content.get("scheduler") or {}),
        )
