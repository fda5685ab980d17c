"""The process that mirrors records to MLflow; it can neither slow down a cell nor make one fail."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from harness import json_process
from harness.sweep.tracking.tracking_uri import embedded

#: How long a sweep waits for an embedded store to be created.
CREATION_SECONDS = 60.0
#: How long a finished sweep waits for its mirror: these seconds (of an embedded store, of a server), and this share of
#: the sweep's own time.
EMBEDDED_SECONDS, SERVER_SECONDS, END_SHARE = 60.0, 10.0, 0.01


class MirrorProcess:
    """A process that mirrors the records of a manifest's file to MLflow while the block runs, and once more after it.

    The block begins at once, except that it waits until a new embedded store has been created. After the block, the
    process gets a bounded time to end.

    ``complete`` says, after the block, whether everything is mirrored.
    """

    def __init__(self, results: Path, manifest: Path, uri: str) -> None:
        self.complete = False
        self.log = results / "mlflow-mirror.log"
        self._command = json_process.command("harness.sweep.tracking.mirror", str(results), str(manifest), uri)
        self._store = embedded(uri)
        self._ready = threading.Event()

    def __enter__(self) -> MirrorProcess:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        missing = self._store is not None and not self._store.exists()
        with self.log.open("ab") as errors:
            # In a new session, so that the terminal's Ctrl-C reaches only the sweep.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        self.pid = self._process.pid
        threading.Thread(target=self._listen, daemon=True).start()
        if missing:
            self._ready.wait(CREATION_SECONDS)
        self._began = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        patience = EMBEDDED_SECONDS if self._store else SERVER_SECONDS
        patience += END_SHARE * (time.monotonic() - self._began)
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        finally:
            self._process.kill()  # nothing is lost: the next pass writes what is missing
            self.complete = self._process.wait() == 0

    def _listen(self) -> None:
        """Read until the process has ended, which may be before it was ready."""
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self._ready.set()
        self._process.stdout.read()
