"""The process that mirrors records to MLflow; it can neither slow down a cell nor make one fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from harness import json_process
from harness.sweep.tracking.tracking_uri import VARIABLE, embedded, public

#: How long a sweep waits for an embedded store to be created.
CREATION_SECONDS = 60.0
#: How long a finished sweep waits for its mirror: these seconds (of an embedded store, of a server), and this share of
#: the sweep's own time.
EMBEDDED_SECONDS, SERVER_SECONDS, END_SHARE = 60.0, 10.0, 0.01
#: How a line of the process begins that is for the user.
NOTE = "note: "


class MirrorProcess:
    """A process that mirrors the records of a manifest's file to MLflow while the block runs, and once more after it.

    The block begins at once, except that it waits until a new embedded store has been created. After the block, the
    process gets a bounded time to end.

    After the block, ``complete`` says whether everything is mirrored, and ``notes`` what the user should know.
    """

    def __init__(self, results: Path, manifest: Path, uri: str) -> None:
        self.complete = False
        self.notes: list[str] = []
        self.log = results / "mlflow-mirror.log"
        # Everybody on this machine can read the arguments of a process, and only its owner the environment.
        self._command = json_process.command("harness.sweep.tracking.mirror", str(results), str(manifest), public(uri))
        self._environment = {**os.environ, VARIABLE: uri}
        self._store = embedded(uri)
        self._ready = threading.Event()

    def __enter__(self) -> MirrorProcess:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        missing = self._store is not None and not self._store.exists()
        with self._open_log() as errors:
            # In a new session, so that the terminal's Ctrl-C reaches only the sweep.
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        if missing:
            self._ready.wait(CREATION_SECONDS)
        self._began = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        patience = EMBEDDED_SECONDS if self._store else SERVER_SECONDS
        patience += END_SHARE * (time.monotonic() - self._began)
        assert self._process.stdin is not None
        self._process.stdin.close()
        is_late = True
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
                is_late = False
        finally:
            self._process.kill()  # nothing is lost: the next pass writes what is missing
            code = self._process.wait()
            self._listener.join(1)
            self.complete = code == 0
            if is_late:
                self._write_log(f"ended before its last pass was complete, {patience:.0f} s after the sweep")
            elif code < 0:
                self._write_log(f"killed by {signal.Signals(-code).name}")

    def _listen(self) -> None:
        """Read until the process has ended, which may be before it was ready."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._ready.set()
            with suppress(ValueError):  # a kill may tear the last line
                text = json.loads(line)
                if text.startswith(NOTE):
                    self.notes.append(text.removeprefix(NOTE))
        self._ready.set()

    def _open_log(self) -> IO[bytes]:
        """Open the log for appending; without one, a sweep goes on all the same."""
        try:
            return self.log.open("ab")
        except OSError as error:
            self.notes.append(f"its log cannot be written: {error}")
            return Path(os.devnull).open("ab")

    def _write_log(self, line: str) -> None:
        with self._open_log() as log:
            log.write(f"{time.strftime('%F %T')} {line}; harness sync writes what is missing\n".encode())
