"""What a Slurm job runs: cells one after another, and a new process where the last one may be in any state."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import submitit.helpers

from harness.cell import Loss
from harness.plugins import sources
from harness.ssl import worker
from harness.store.record import Record
from harness.sweep.slurm.job import JobTask

MakeRecord = Callable[..., Record]


class Restarted(Exception):
    """The process was replaced by a new one."""


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the cells that this process has computed; each of them finishes, and imports its user's loss."""
    found: list[str] = []
    files: set[Path] = set()
    monkeypatch.setattr(sources, "_imported", files)

    def attempt(record: Record, submission: object) -> tuple[int, str]:
        found.append(record.cell_id)
        files.update([Path("own.py")] if record.cell().loss.source else [])
        return worker.FINISHED, ""

    def execv(program: str, arguments: list[str]) -> None:
        raise Restarted

    environment = SimpleNamespace(export=lambda **_: SimpleNamespace(rank=0))
    monkeypatch.setattr(submitit.helpers, "TorchDistributedEnvironment", lambda: environment)
    monkeypatch.setattr(worker, "attempt", attempt)
    monkeypatch.setattr("harness.sweep.slurm.job.os.execv", execv)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-m", "submitit"])
    monkeypatch.setenv("HARNESS_JOB_STARTED", "")
    return found


def test_after_a_users_own_loss_the_next_cell_gets_a_new_process(make_record: MakeRecord, computed: list[str]) -> None:
    plain = [make_record(seed=seed) for seed in (0, 1)]
    own = make_record(loss=Loss("mine", source="0123456789ab"))
    with pytest.raises(Restarted):
        JobTask(tuple(str(record.path) for record in [*plain, own, make_record(seed=2)]))()
    assert computed == [record.cell_id for record in [*plain, own]]


def test_after_the_last_cell_nothing_is_started(make_record: MakeRecord, computed: list[str]) -> None:
    records = [make_record(), make_record(loss=Loss("mine", source="0123456789ab"))]
    JobTask(tuple(str(record.path) for record in records))()
    assert computed == [record.cell_id for record in records]
