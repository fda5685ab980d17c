"""Checkpoints that are not what they should be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
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


@pytest.mark.tried("hostile archives and files", "a checkpoint that would run a program")
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


@pytest.mark.parametrize(("trained_on", "kept_on"), [("meta", "cpu"), ("cpu", "meta")])
def test_what_a_loss_keeps_on_the_cpu_comes_back_there(tmp_path: Path, trained_on: str, kept_on: str) -> None:
    """The device "meta" stands for a GPU; a cell that was trained on the CPU goes on there with all that it has."""
    saved = {
        "method": {"weight": torch.ones(2, device=trained_on)},
        "probes": {"norm": [torch.ones(2)]},
        "own_loss": {"state": {"averages": [torch.ones(2)], "steps": 3}, "kept_outside": {}},
    }
    torch.save(saved, tmp_path / "checkpoint.pt")
    state = checkpoint.load(tmp_path / "checkpoint.pt", torch.device("meta"))
    assert state["own_loss"]["state"]["averages"][0].device.type == kept_on
    assert state["own_loss"]["state"]["steps"] == 3
    assert state["method"]["weight"].device.type == state["probes"]["norm"][0].device.type == "meta"
