"""The control groups of this process, by which containers, Kubernetes and systemd limit what it may use."""

from __future__ import annotations

from pathlib import Path

#: The root of the file system, in which ``/proc`` and ``/sys`` are found.
ROOT = Path("/")


def control_groups(controller: str, root: Path | None = None) -> list[Path]:
    """Return the folders of the process's own control group and of all above it, in version 2 and 1.

    A container sees its group at the top, whatever path the group has outside, so that the top counts as well.

    Args:
        controller: what is limited, such as ``cpu`` or ``memory``.
        root: the root of the file system; None is ``ROOT``.
    """
    root = root or ROOT
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    folders = []
    for controllers, group in (line.split(":", 2)[1:] for line in lines):
        if not controllers or controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controllers
            folder = top / group.strip("/")
            folders += [path for path in (folder, *folder.parents) if path.is_relative_to(top)]
    return folders
