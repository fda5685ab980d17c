"""The identity of a process, and whether it still exists."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ProcessIdentity:
    """Host, boot, process id and when the process started, because a process id alone is used again.

    The fields are the keys of the files that hold an identity; None where a file has none.
    """

    host: str | None
    boot: str | None
    pid: int | None
    pid_started: str | None

    @classmethod
    def current(cls) -> ProcessIdentity:
        """The identity of this process."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            boot = ""
        pid = os.getpid()
        return cls(socket.gethostname(), boot, pid, _process_started(pid))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ProcessIdentity:
        """Return the identity that a file holds beside other keys."""
        return cls(content.get("host"), content.get("boot"), content.get("pid"), content.get("pid_started"))

    def exists(self) -> bool:
        """Whether the process exists, which is assumed of a process on another machine."""
        current = ProcessIdentity.current()
        if self.pid is None or (self.host, self.boot) != (current.host, current.boot):
            return True
        return _process_started(self.pid) == self.pid_started


def _process_started(pid: int) -> str:
    """Return when the process started, in ticks since boot; empty where it does not exist or is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if stat[0] == "Z" else stat[19]
