"""The identity of a process, and whether it still exists."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

#: Clock ticks per second.
TICKS = os.sysconf("SC_CLK_TCK")
#: The boot time is only known to a second, and a system may correct it while it runs.
TOLERANCE_SECONDS = 2


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
        started = _process_started(self.pid)
        if not started or not (self.pid_started or "").isdigit():
            return started == self.pid_started
        return abs(int(started) - int(self.pid_started or 0)) <= TOLERANCE_SECONDS * TICKS


def _process_started(pid: int) -> str:
    """Return when the process started, in clock ticks since boot; empty where it does not exist or is a zombie.

    The unit is that of Linux's ``/proc/PID/stat``, in which identities have always been written.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return str(round((process.create_time() - psutil.boot_time()) * TICKS))
    except psutil.Error:
        return ""
