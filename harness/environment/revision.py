"""The code that results come from: its git revision, where the package has its history, and a hash of its sources."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: Variables that name another repository, for instance within a hook of git.
OTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")


@dataclass(frozen=True)
class Revision:
    """The commit of the code, empty where it is unknown, and whether tracked files under harness/ differ from it."""

    revision: str
    dirty: bool


def revision() -> Revision:
    """Return the revision of the files that are on the disk now."""
    folder = Path(__file__).parents[1]

    environment = {name: value for name, value in os.environ.items() if name not in OTHER_REPOSITORY}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, errors="replace")
        return done.stdout.strip() if done.returncode == 0 else ""

    # A copy inside another project's repository must not report that repository's revision.
    try:
        ours = bool(git("ls-files", "--error-unmatch", "environment/revision.py"))
        dirty = bool(git("status", "--porcelain", "--untracked-files=no", ".")) if ours else False
        return Revision(git("rev-parse", "HEAD") if ours else "", dirty)
    except OSError:  # there is no git, or none that this user may run
        return Revision("", dirty=False)


@functools.cache
def source_hash() -> str:
    """Return 12 hex digits over the sources that compute a cell, which inform but never make a result stale."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    folders = [package / "ssl", package / "datasets"]
    files = [package / "cell.py", package / "random_streams.py"]
    for path in sorted([*files, *(file for folder in folders for file in folder.rglob("*.py"))]):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
