"""Ctrl-C while the program loads: nothing has begun, so that it ends at once, with exit code 130 and no traceback."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def is_program() -> bool:
    """Whether this process is ``harness`` or ``python -m harness.cli.main``, and no other program that imports it."""
    return os.path.basename(sys.argv[0]) in ("harness", "-m") and "harness" in " ".join(sys.orig_argv[:6])


def end_at_once() -> None:
    """End this process at the next Ctrl-C, unless the signal is ignored (``nohup``, a job in the background)."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def interrupt_as_usual() -> None:
    """Raise KeyboardInterrupt at Ctrl-C again, because a verb begins."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    if multiprocessing := sys.modules.get("multiprocessing"):  # its processes outlive an end as abrupt as this one
        for child in multiprocessing.active_children():
            child.kill()
    os._exit(128 + number)
