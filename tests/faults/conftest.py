"""No test of faults leaves a process behind, also where it fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.faults.machines import STARTED


@pytest.fixture(autouse=True)
def _no_process_stays() -> Iterator[None]:
    yield
    for process in STARTED:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
                os.killpg(process.pid, signal.SIGCONT)
            process.communicate()
    STARTED.clear()
