"""The git revision that results come from; none where the package is installed without its history."""

from __future__ import annotations

import subprocess
from pathlib import Path


def revision() -> dict[str, str | bool]:
    """``{"revision": <hash or "">, "dirty": whether tracked files under harness/ differ from it}``."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    # A copy inside somebody else's repository must not borrow that repository's revision.
    try:
        ours = bool(git("ls-files", "--error-unmatch", "revision.py"))
        return {
            "revision": git("rev-parse", "HEAD") if ours else "",
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no", ".")) if ours else False,
        }
    except FileNotFoundError:
        return {"revision": "", "dirty": False}
