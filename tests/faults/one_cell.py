"""A sweep of one cell, on machines of one folder, that a test disturbs; and a calm one to compare it with."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.store.record import Record
from tests.faults.damage import numbers
from tests.faults.machines import HANGS, Machine, wait_until

MODULES = {"worker": "harness.ssl.worker", "launcher": "torch.distributed.run"}
NO_STORE = ["--tracking-uri", "http://127.0.0.1:9"]
CELLS = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[1]", "axes.epochs=[30]"]


def machine(folder: Path, host: str) -> Machine:
    return Machine(folder / host, host).set_clock(0)


def record_in(results: Path) -> Record | None:
    """Return the record of the only cell, once it trains."""
    records = [Record(path) for path in results.glob("runs/*")]
    return records[0] if records and len(records[0].events()) > 1 else None


def _names(process: psutil.Process) -> list[str]:
    """Return what a process of a sweep is: a worker, a launcher, or a rank, which has a number."""
    words = process.cmdline()
    if "harness.ssl" in words and "torch.distributed.run" not in words:
        return [process.environ().get("RANK", "")]
    return [name for name, module in MODULES.items() if module in words]


@dataclass
class OneCell:
    """A sweep of one cell; ``ranks``: of how many processes."""

    folder: Path
    ranks: int

    def __post_init__(self) -> None:
        text = (self.folder / "tiny.yaml").read_text().partition("claims:")[0]
        resources = f"resources:\n  - where: loss=dcl\n    gpus: {self.ranks}\n"
        (self.folder / "tiny.yaml").write_text(f"{text}scales:\n  demo: {{}}\n{resources}")
        words = [*CELLS, *NO_STORE, "cluster.slots=2", "--results"]
        calm = machine(self.folder, "node1").harness("sweep", "tiny.yaml", *words, "calm", cwd=self.folder)
        assert calm.returncode == 0, calm.stdout + calm.stderr
        self.words = [*words, "wild"]
        self.sweep = self.start("node1")
        wait_until(lambda: record_in(self.folder / "wild"))
        found = record_in(self.folder / "wild")
        assert found
        self.record = found

    def status(self, host: str) -> str:
        done = machine(self.folder, host).harness("status", "--results", "wild", cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, host: str) -> subprocess.Popen[str]:
        """Give the sweep on a machine."""
        return machine(self.folder, host).sweep("tiny.yaml", *self.words, cwd=self.folder)

    def process(self, victim: str) -> int | None:
        """Return the id of the sweep, the worker, the launcher, or a rank (0, 1); None where there is none now."""
        if victim == "sweep":
            return self.sweep.pid
        with suppress(psutil.Error):
            for process in psutil.Process(self.sweep.pid).children(recursive=True):
                if victim in _names(process):
                    return process.pid
        return None

    def check(self, *sweeps: subprocess.Popen[str]) -> None:
        """Check that all sweeps end well, and that the cell has one outcome, with the numbers of a calm sweep."""
        for sweep in (self.sweep, *sweeps):
            output, errors = sweep.communicate(timeout=HANGS)
            assert sweep.returncode == 0, output + errors
            assert "FAILED" not in output
        (calm,) = (Record(path) for path in self.folder.glob("calm/runs/*"))
        assert numbers(self.record) == numbers(calm)
        published = self.record.outcome()
        assert published
        ends = [attempt.outcome() for attempt in self.record.attempts()]
        assert [end.attempt for end in ends if end and end.finished] == [published.attempt], "it finished once"


def epochs_again(record: Record) -> int:
    """Return how many epochs were computed more than once: what was lost."""
    steps = [event.step for attempt in record.attempts() for event in attempt.events() if "loss" in event.metrics]
    return len(steps) - len(set(steps))
