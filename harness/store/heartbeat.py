"""The heartbeat of an attempt: the sign for other processes that it is alive."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import TracebackType

from harness.files import write_json
from harness.store.progress import TrainingProgress
from harness.store.record import Attempt
from harness.store.signs_of_life import HEARTBEAT_SECONDS


class Heartbeat:
    """A thread that touches an attempt's heartbeat, so that the training loop never waits for the disk.

    ``progress``: what the file is to hold, which the thread looks for every ``until_progress`` seconds at first.
    ``stop``: the cause of a request to stop that it has found; empty where there is none.
    """

    def __init__(self, attempt: Attempt, until_progress: float = 0.5) -> None:
        self.progress: TrainingProgress | None = None
        self.stop = ""
        self._attempt, self._until_progress = attempt, until_progress
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        step, seen = -1, 0.0
        while not self._stop.wait(HEARTBEAT_SECONDS if self.progress else self._until_progress):
            progress, now = self.progress, time.monotonic()
            if progress and progress.step != step:
                step, seen = progress.step, now
            content = vars(replace(progress, waits=now - seen)) if progress else {}
            try:
                write_json(self._attempt.heartbeat_file, content, checksum=False)
                self.stop = self.stop or self._attempt.stop_requested()
            except OSError:
                # A full disk must not look like a dead process; the loop itself meets the same disk at its checkpoint.
                continue
