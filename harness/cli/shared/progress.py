"""Progress of a sweep: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from harness.cli.shared.text import hours
from harness.store.record import Record
from harness.sweep.run.supervisor import NOT_STARTED, TaskState

REFRESH_SECONDS = 2.0
#: Between lines about running cells, where there is no terminal.
LINE_SECONDS = 60.0


class Progress:
    """Says when a cell ends, with its result; in a terminal also shows the running ones.

    ``done`` of ``total`` cells had finished before.
    """

    def __init__(self, done: int, total: int) -> None:
        self._done, self._total = done, total
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

    def update(self, ended: Sequence[TaskState], running: Sequence[TaskState]) -> None:
        """Called at every poll; a terminal that is gone is no reason to stop."""
        with suppress(OSError):
            self._update(ended, running)

    def _update(self, ended: Sequence[TaskState], running: Sequence[TaskState]) -> None:
        for watched in ended:
            if watched.ended != NOT_STARTED:
                self._say(watched)
        waited = time.monotonic() - self._refreshed
        if self._live and waited > REFRESH_SECONDS:
            self._live.update(self._table(running), refresh=True)
            self._refreshed = time.monotonic()
        elif not self._live and waited > LINE_SECONDS:
            for watched in running:
                epoch, knn, rate, left = _progress(watched.task.record)
                doing = f"epoch {epoch}, validation kNN {knn or '-'} %, {rate} samples/s, {left} left"
                print(f"  {watched.task.name}: {doing if rate else epoch}", flush=True)
            self._refreshed = time.monotonic()

    def _say(self, watched: TaskState) -> None:
        line = watched.ended
        if watched.finished:
            self._done += 1
            outcome = watched.task.record.outcome()
            assert outcome
            metrics = outcome.metrics
            line = (
                f"kNN {metrics['test_knn']:.2f} %, linear {metrics['test_linear']:.2f} % "
                f"(initial encoder {metrics['init_knn']:.2f} %), {hours(outcome.seconds / 3600)}"
            ) + "".join(f"; without {note}" for note in outcome.notes)
        elif watched.ended.startswith("FAILED") and (attempts := watched.task.record.attempts()):
            line += f" (log: {attempts[-1].log('stderr')})"
        text = f"[{self._done}/{self._total}] {watched.task.name}: {line}"
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _table(self, running: Sequence[TaskState]) -> Table:
        columns = ("cell", "epoch", "validation kNN (%)", "samples/s", "left")
        table = Table(*columns, title=f"{self._done} of {self._total} finished")
        for watched in running:
            table.add_row(watched.task.name, *_progress(watched.task.record))
        return table


def _progress(record: Record) -> tuple[str, str, str, str]:
    attempts = record.attempts()
    progress = attempts[-1].progress() if attempts else None
    if progress is None:
        return "starting", "", "", ""
    cell = record.cell()
    curve = [event.metrics["val_knn"] for event in record.events() if "val_knn" in event.metrics]
    left = hours(progress.seconds_left(cell.batch_size) / 3600)
    epoch = f"{progress.epoch + 1} of {cell.epochs}"
    return epoch, f"{curve[-1]:.1f}" if curve else "", f"{progress.rate:.0f}", left
