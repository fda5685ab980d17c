"""The disk space that cells need, and how much is free where they write."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from harness.files import cache_folder, existing_folder, free_bytes


@dataclass(frozen=True)
class DiskSpace:
    """``needed`` bytes in ``folder``, on whose disk ``free`` bytes are free.

    ``lacking``: whether the disk is too small for everything that is written to it. For images in the caches of a
    cluster's nodes, ``folder`` and ``free`` are None.
    """

    what: str
    needed: int
    folder: Path | None = None
    free: int | None = None
    lacking: bool = False


def required_space(results_bytes: int | None, results: Path, images: int, *, elsewhere: bool) -> list[DiskSpace]:
    """Return the space for results, where its size is known, and for ``images`` bytes that the cache has to hold.

    ``elsewhere``: the images are cached on a cluster's nodes and not on this machine.
    """
    written = {}
    if results_bytes is not None:
        written["Disk"] = (results_bytes, results)
    if images and not elsewhere:
        written["Images"] = (images, cache_folder() / "images")
    on_disk: Counter[int] = Counter()
    for needed, folder in written.values():
        on_disk[disk_of(folder)] += needed
    spaces = []
    for what, (needed, folder) in written.items():
        free = free_bytes(folder)
        spaces.append(DiskSpace(what, needed, folder, free, on_disk[disk_of(folder)] > free))
    if images and elsewhere:
        spaces.append(DiskSpace("Images", images))
    return spaces


def disk_of(folder: Path) -> int:
    """Return the number of the device that a folder lies on, or will lie on."""
    return existing_folder(folder).stat().st_dev
