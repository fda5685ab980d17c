"""Checkpoints that are not what they should be."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from harness.ssl import checkpoint
from harness.store.provenance import Provenance
from tests.support.training import MakeRecord


class Program:
    """What a hostile checkpoint holds: unpickling it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_a_checkpoint_that_would_run_a_program_is_damaged_and_runs_nothing(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    record, ran = make_record(), tmp_path / "ran"
    attempt = record.begin(Provenance())
    torch.save({"step": Program(f"touch {ran}")}, attempt.checkpoint)
    resumed = checkpoint.load_latest(record, torch.device("cpu"))
    assert resumed.state is None
    assert len(resumed.notes) == 1
    assert str(attempt.checkpoint) in resumed.notes[0]
    assert not ran.exists()
