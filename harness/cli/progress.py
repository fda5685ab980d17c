"""Progress of a sweep: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from harness.cli.arguments import short_names
from harness.cli.declared import Declared
from harness.cli.summary import hours
from harness.record import Record
from harness.sweep.executors.base import JobState
from harness.sweep.executors.local import LocalExecutor
from harness.sweep.supervise import Watched

REFRESH_SECONDS = 2.0
#: Between lines about running cells, where there is no terminal.
LINE_SECONDS = 60.0


class Progress:
    """Says when a cell ends, with its result; in a terminal also shows the running ones."""

    def __init__(self, declared: Declared, executor: LocalExecutor) -> None:
        self._names = declared.manifest.varying
        self._total = len(declared.plan.entries)
        self._done = declared.plan.counts()["finished"]
        self._executor = executor
        self._said: set[str] = set()
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._refreshed = time.monotonic()

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live:
            self._live.update("", refresh=True)
            self._live.stop()

    def update(self, states: Mapping[str, JobState], watched: Sequence[Watched]) -> None:
        """Called at every poll."""
        for item in watched:
            record = item.entry.record
            if item.state(states) == "ended" and record.cell_id not in self._said:
                self._said.add(record.cell_id)
                self._say(item)
        if self._live and time.monotonic() - self._refreshed > REFRESH_SECONDS:
            self._live.update(self._table(states, watched), refresh=True)
            self._refreshed = time.monotonic()
        elif not self._live and time.monotonic() - self._refreshed > LINE_SECONDS:
            for item in self._running(states, watched):
                epoch, knn, rate, left = _progress(item.entry.record)
                doing = f"epoch {epoch}, validation kNN {knn or '-'} %, {rate} samples/s, {left} left"
                print(f"  {short_names(item.entry.axes, self._names)}: {doing if rate else epoch}", flush=True)
            self._refreshed = time.monotonic()

    def _say(self, item: Watched) -> None:
        record, name = item.entry.record, short_names(item.entry.axes, self._names)
        outcome = record.outcome()
        if outcome:
            self._done += 1
            metrics = outcome["metrics"]
            line = (
                f"kNN {metrics['test_knn']:.2f} %, linear {metrics['test_linear']:.2f} % "
                f"(initial encoder {metrics['init_knn']:.2f} %), {hours(outcome['seconds'] / 3600)}"
            )
        else:
            line = self._complaint(item)
        self._console.print(
            f"[{self._done}/{self._total}] {name}: {line}", highlight=False, markup=False, soft_wrap=True
        )

    def _complaint(self, item: Watched) -> str:
        record = item.entry.record
        attempts = record.attempts()
        ended = attempts[-1].outcome() if attempts else None
        if ended and ended["state"] == "failed":
            return f"FAILED: {ended['error']} (log: {attempts[-1].path / 'stderr.log'})"
        if record.state() == "running":
            return "is being computed by another sweep"
        words = self._executor.last_words(item.job) if item.job else ""
        return f"interrupted{': ' + words.splitlines()[-1] if words else ''}"

    def _table(self, states: Mapping[str, JobState], watched: Sequence[Watched]) -> Table:
        queued = sum(state == "queued" for state in states.values())
        table = Table(
            "cell",
            "epoch",
            "validation kNN (%)",
            "samples/s",
            "left",
            title=f"{self._done} of {self._total} finished, {queued} queued",
        )
        for item in self._running(states, watched):
            table.add_row(short_names(item.entry.axes, self._names), *_progress(item.entry.record))
        return table

    @staticmethod
    def _running(states: Mapping[str, JobState], watched: Sequence[Watched]) -> list[Watched]:
        return [item for item in watched if item.state(states) == "running"]


def _progress(record: Record) -> tuple[str, str, str, str]:
    attempts = record.attempts()
    said = attempts[-1].progress() if attempts else {}
    if not said:
        return "starting", "", "", ""
    cell = record.cell()
    curve = [event["metrics"]["val_knn"] for event in record.events() if "val_knn" in event["metrics"]]
    left = (said["steps"] - said["step"]) * cell.batch_size / said["rate"]
    epoch = f"{said['epoch'] + 1} of {cell.epochs}"
    return epoch, f"{curve[-1]:.1f}" if curve else "", f"{said['rate']:.0f}", hours(left / 3600)
