"""A lock for the one process that writes a file of the cache, or a node's copy of the images, while others wait."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.files import NOT_SUPPORTED, lock
from harness.store.record import Busy
from harness.store.writer_lock import writer_lock

WAIT_SECONDS = 0.5


@contextmanager
def one_writer(path: Path) -> Iterator[None]:
    """Wait until no other process writes ``path``, and keep others from it; say once for what this process waits.

    The lock is the kernel's, which ends with its holder, however that ends. On a file system without ``flock`` it is
    that of a store's writers: a holder that was killed on this machine is seen to be gone at once, one elsewhere when
    its heartbeat has been silent for two minutes.

    Raises:
        OSError: the lock cannot be written.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open(f"{path}.lock", "ab"))
        if not _locked_by_the_kernel(file.fileno(), path):
            _wait_for_claim(stack, path)
        yield


def _locked_by_the_kernel(descriptor: int, path: Path) -> bool:
    """Lock the open file, and return whether its file system can do so."""
    try:
        if not lock(descriptor, wait=False):
            _say(path, f"which has locked {path.name}.lock")
            lock(descriptor, wait=True)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        return False
    return True


def _wait_for_claim(stack: ExitStack, path: Path) -> None:
    claims, holder = path.with_name(f"{path.name}.writers"), ""
    while True:
        try:
            stack.enter_context(writer_lock(claims))
            return
        except Busy as busy:
            if str(busy) != holder:
                _say(path, f"{busy} (if that has ended: rm -r {claims})")
            holder = str(busy)
            time.sleep(WAIT_SECONDS)


def _say(path: Path, holder: str) -> None:
    print(f"waiting for another process to write {path}: {holder}", file=sys.stderr)
