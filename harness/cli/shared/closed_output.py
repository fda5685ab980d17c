"""Output whose reader has gone (``harness sweep x | head -3``): the work goes on, and its exit code stays true."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

#: The verbs that show and may never end: they stop with their reader.
ENDING = ("status", "logs", "ui")
#: The verbs that take long: a line on the standard error says that they go on.
LONG = ("sweep", "retry", "evaluate", "bench")


class _OutlivingStream:
    """A stream that writes to nowhere once nobody reads it; ``note``: what is said then on the standard error."""

    def __init__(self, stream: TextIO, note: str = "") -> None:
        self._stream, self._note = stream, note

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._write_to_nowhere()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._write_to_nowhere()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _write_to_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if self._note:
            print(self._note, file=sys.stderr, flush=True)


@contextlib.contextmanager
def outlived(verb: str) -> Iterator[None]:
    """Let a verb go on when the reader of its output has gone, unless it only shows."""
    if verb in ENDING:
        try:
            yield
        finally:
            _OutlivingStream(sys.stdout).flush()  # Python itself would end with a message and code 120
        return
    note = f"harness: nobody reads the output any more; {verb} goes on (Ctrl-C stops it)" if verb in LONG else ""
    output, errors = _OutlivingStream(sys.stdout, note), _OutlivingStream(sys.stderr)
    with contextlib.redirect_stdout(cast("TextIO", output)), contextlib.redirect_stderr(cast("TextIO", errors)):
        try:
            yield
        finally:
            output.flush()
            errors.flush()
