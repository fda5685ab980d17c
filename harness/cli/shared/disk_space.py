"""The room on disk that cells need, and whether it is there."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cli.shared.confirm import confirm
from harness.cli.shared.load_experiment import Declared
from harness.cli.shared.text import size
from harness.datasets.image_folder import bytes_to_cache
from harness.files import cache_folder
from harness.sweep.plan.plan import Entry, PlanEstimate


@dataclass(frozen=True)
class DiskSpace:
    """``needed`` bytes in ``folder``, on whose disk so many are ``free``; ``lacking``: not enough for all that is
    written there. Where the cache is another machine's, ``folder`` and ``free`` are None."""

    what: str
    needed: int
    folder: Path | None = None
    free: int | None = None
    lacking: bool = False

    def __str__(self) -> str:
        if self.folder is None:
            return f"{size(self.needed)} in the cache of each node (XDG_CACHE_HOME), once where they share it"
        lacking = "; NOT ENOUGH" if self.lacking else ""
        return f"{size(self.needed)} in {self.folder}/, of {size(self.free or 0)} that are free{lacking}"


def required_space(
    declared: Declared, entries: Sequence[Entry], estimate: PlanEstimate | None, results: Path
) -> list[DiskSpace]:
    """What these cells write: into the results, where that was estimated, and what the first keeps of its images."""
    images = bytes_to_cache({entry.cell.dataset for entry in entries}, declared.files, elsewhere=declared.on_cluster)
    written = {}
    if estimate and estimate.disk_bytes is not None:
        written["Disk"] = (estimate.disk_bytes, results)
    if images and not declared.on_cluster:
        written["Images"] = (images, cache_folder() / "images")
    on_disk: Counter[int] = Counter()
    for needed, folder in written.values():
        on_disk[_device(folder)] += needed
    found = []
    for what, (needed, folder) in written.items():
        free = free_bytes(folder)
        found.append(DiskSpace(what, needed, folder, free, on_disk[_device(folder)] > free))
    if images and declared.on_cluster:
        found.append(DiskSpace("Images", images))
    return found


def confirm_space(found: Sequence[DiskSpace], yes: bool, again: str) -> None:
    """Ask where a disk has too little."""
    disks: dict[int, list[DiskSpace]] = {}
    for room in found:
        if room.lacking and room.folder:
            disks.setdefault(_device(room.folder), []).append(room)
    for rooms_there in disks.values():
        written = " and ".join(f"{size(room.needed)} into {room.folder}/" for room in rooms_there)
        free = size(rooms_there[0].free or 0)
        confirm(f"They write about {written}, and {free} are free there. Go on all the same?", yes, again)


def free_bytes(folder: Path) -> int:
    """Where this folder is, or will be."""
    return shutil.disk_usage(_existing(folder)).free


def _device(folder: Path) -> int:
    return _existing(folder).stat().st_dev


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
