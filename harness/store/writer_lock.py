"""A lock for the one writer of a store: taken like an attempt at a cell, so that it works on any shared folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.files import make_folder
from harness.store.heartbeat import Heartbeat
from harness.store.outcome import Outcome
from harness.store.record import Busy, Record
from harness.store.signs_of_life import HEARTBEAT_SECONDS


@contextmanager
def writer_lock(claims: Path) -> Iterator[int]:
    """Hold the lock, and give the number of this hold, which is one more than the last holder's.

    A holder who has died is superseded. Should one come back to life (a laptop that slept), then two may write for a
    moment: that costs a run which the mirror removes again, and no points.

    Raises:
        Busy: another process, which is alive, holds it.
    """
    for folder in (claims.parent, claims):  # no further: results that were moved away are not begun anew there
        folder.mkdir(exist_ok=True)
    make_folder(claims / "attempts")
    queue = Record(claims)
    try:
        attempt = queue.begin()
    except Busy:
        raise Busy(queue.attempts()[-1].holder()) from None
    before = queue.attempts()
    if before[-1] != attempt:
        raise Busy(before[-1].holder())
    for past in before[:-2]:
        shutil.rmtree(past.path, ignore_errors=True)
    try:
        with Heartbeat(attempt, until_progress=HEARTBEAT_SECONDS):
            yield attempt.number
    finally:
        attempt.end(Outcome("interrupted"))
