"""Images copied to a node's own disk, once a node, whatever number of ranks and jobs it has."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock


def staged(root: str, fingerprint: str, stage: str) -> str:
    """Return the folder on this node that holds what ``root`` does, copied below ``stage`` if it is not there yet.

    The first process copies; others of the node wait for it. A lock on a node's own disk is a sound one. A copy is
    named after the content's fingerprint and is there once it is whole.

    Raises:
        OSError: the node's disk is full, or cannot be written.
    """
    target = Path(os.path.expandvars(stage)) / f"harness-{os.getuid()}-{fingerprint[:16]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.exists():
            draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
            try:
                shutil.copytree(root, draft / "data")
                (draft / "data").rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return str(target)
