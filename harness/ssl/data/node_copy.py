"""Images copied to a node's own disk, once a node, whatever number of ranks and jobs it has."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from harness.datasets.class_folders import not_copied
from harness.ssl.data.one_writer import one_writer


def staged(root: str, fingerprint: str, stage: str) -> str:
    """Return the path of this node's copy of the folder ``root``, and make the copy below ``stage`` first if need be.

    The first process copies; others of the node wait for it. Locks work reliably on a node's own disk. A copy is named
    after the fingerprint of its content, and gets its name once it is complete.

    Raises:
        OSError: the node's disk is full, or cannot be written.
    """
    target = Path(os.path.expandvars(stage)) / f"harness-{os.getuid()}-{fingerprint[:16]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with one_writer(target):
        if not target.exists():
            draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
            try:
                shutil.copytree(root, draft / "data", ignore=not_copied, ignore_dangling_symlinks=True)
                (draft / "data").rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return str(target)
