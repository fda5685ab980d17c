"""How verbs show the disk space that cells need, and ask where there is too little."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cli.shared.confirm import confirm
from harness.cli.shared.text import size
from harness.sweep.plan import disk_space
from harness.sweep.plan.disk_space import DiskSpace


def described(space: DiskSpace) -> str:
    """Return the space in a sentence, such as ``3 MiB in results/, of 74 GiB that are free``."""
    if space.folder is None:
        return f"{size(space.needed)} in the cache of each node (XDG_CACHE_HOME), once where they share it"
    lacking = "; NOT ENOUGH" if space.lacking else ""
    return f"{size(space.needed)} in {space.folder}/, of {size(space.free or 0)} that are free{lacking}"


def confirm_space(spaces: Sequence[DiskSpace], yes: bool, again: str) -> None:
    """Ask for each disk that is too small."""
    disks: dict[int, list[DiskSpace]] = {}
    for space in spaces:
        if space.lacking and space.folder:
            disks.setdefault(disk_space.disk_of(space.folder), []).append(space)
    for on_disk in disks.values():
        written = " and ".join(f"{size(space.needed)} into {space.folder}/" for space in on_disk)
        free = size(on_disk[0].free or 0)
        confirm(f"The cells write about {written}, and {free} are free there. Go on all the same?", yes, again)
