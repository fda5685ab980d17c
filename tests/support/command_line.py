"""The command line, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def harness(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli.main", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ})
