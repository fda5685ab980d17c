"""The identity of a process, and whether it still exists."""

from __future__ import annotations

import os
import socket
import sys
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

    Containers on one host may have the host's name, and each counts its processes anew: the namespace of process ids is
    a part of the identity. The fields are the keys of the files that hold an identity; None where a file has none.
    """

    host: str | None
    boot: str | None
    pid: int | None
    pid_started: str | None
    pid_namespace: str | None = None

    @classmethod
    def current(cls) -> ProcessIdentity:
        """The identity of this process."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            boot = ""
        pid = os.getpid()
        return cls(socket.gethostname(), boot, pid, _process_started(pid), _pid_namespace())

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ProcessIdentity:
        """Return the identity that a file holds beside other keys."""
        return cls(*(content.get(key) for key in ("host", "boot", "pid", "pid_started", "pid_namespace")))

    def exists(self) -> bool:
        """Whether the process exists, which is assumed of a process that cannot be seen from here.

        It cannot be seen on another machine, in another container, or where ``/proc`` hides the processes of others.
        """
        pid = self._visible_pid()
        if pid is None:
            return True
        started = _process_started(pid)
        if not started or not (self.pid_started or "").isdigit():
            return started == self.pid_started
        return abs(int(started) - int(self.pid_started or 0)) <= TOLERANCE_SECONDS * TICKS

    def is_stopped(self) -> bool:
        """Whether the process is seen from here and is stopped: by SIGSTOP, by Ctrl-Z, or by a debugger."""
        pid = self._visible_pid()
        if pid is None or not self.exists():
            return False
        try:
            return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
        except psutil.Error:
            return False

    def _visible_pid(self) -> int | None:
        """Return the process id, if the process can be seen from here as long as it exists."""
        current = ProcessIdentity.current()
        if not isinstance(self.pid, int) or self.pid < 1 or (self.host, self.boot) != (current.host, current.boot):
            return None
        if self.pid_namespace is not None and self.pid_namespace != current.pid_namespace:
            return None
        return None if _is_hidden(self.pid) else self.pid


def _process_started(pid: int) -> str:
    """Return when the process started, in clock ticks since boot; empty where it does not exist or is a zombie.

    The unit is that of Linux's ``/proc/PID/stat``, in which identities have always been written. It is read there:
    psutil adds the boot time to it, which changes when the clock of the machine is set.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        if sys.platform == "linux":
            return (
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
            )
        return str(round((process.create_time() - psutil.boot_time()) * TICKS))
    except (psutil.Error, OSError):
        return ""


def _pid_namespace() -> str:
    """Return the name of the namespace in which process ids of this process are counted; empty where there is none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _is_hidden(pid: int) -> bool:
    """Whether there may be a process of this id which ``/proc`` does not show.

    Clusters mount it with ``hidepid``, which hides the processes of other users; in a container that was started
    without a ``/proc`` of its own it shows the processes of the host instead.
    """
    if sys.platform != "linux":
        return False
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return True
        os.kill(pid, 0)
    except PermissionError:
        return not Path(f"/proc/{pid}").exists()
    except (OSError, OverflowError):  # there is no such process, or no such id
        return False
    return False
