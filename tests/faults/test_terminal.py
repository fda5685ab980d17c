"""A terminal that vanishes: the sweep's cells stop in order, and the same command goes on."""

from __future__ import annotations

import os
import pty
import sys
import time
from pathlib import Path

from harness.store.record import Record


def test_a_closed_terminal_stops_a_sweep_in_order(tiny: Path) -> None:
    words = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.epochs=[60]", "axes.seed=1"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tiny.parent)
        os.execv(sys.executable, [sys.executable, "-m", "harness.cli.main", "sweep", "tiny.yaml", *words])
    deadline = time.monotonic() + 120
    found: list[Path] = []
    while not found and time.monotonic() < deadline:
        os.set_blocking(terminal, False)
        try:
            os.read(terminal, 65536)
        except BlockingIOError:
            time.sleep(0.1)
        found = list(tiny.parent.glob("results/runs/*/attempts/1/events.jsonl"))
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert found
    record = Record(found[0].parents[2])
    outcome = record.attempts()[0].outcome()
    assert outcome
    assert outcome.state == "interrupted"
    assert (found[0].parent / "checkpoint.pt").exists()
    assert os.WIFEXITED(status), "it ended by itself, not by a signal"
