"""The identity of a process, and whether it still exists."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.files import Json


def process_exists(owner: Mapping[str, Any]) -> bool:
    """Whether the process of this ``process_identity`` exists, which is assumed of one on another machine."""
    here = process_identity()
    if (owner.get("host"), owner.get("boot")) != (here["host"], here["boot"]):
        return True
    return bool(_process_started(owner["pid"]) == owner["pid_started"])


def process_identity() -> Json:
    """Return host, boot and process, because a process id alone is used again."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    pid = os.getpid()
    return {"host": socket.gethostname(), "boot": boot, "pid": pid, "pid_started": _process_started(pid)}


def _process_started(pid: int) -> str:
    """Return when the process started, in ticks since boot; empty where it does not exist or is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if stat[0] == "Z" else stat[19]
