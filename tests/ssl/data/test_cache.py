"""What is kept in the cache is written once; how it is written: test_packed.py, test_sources.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from harness.ssl.data.cache import write_once


def test_what_is_there_is_only_looked_at(tmp_path: Path) -> None:
    """A cache that somebody else filled may be one that cannot be written: no lock is taken."""
    written = []

    def save(file: IO[bytes]) -> None:
        written.append(file.write(b"pixels"))

    write_once(tmp_path / "images.npz", save)
    os.unlink(tmp_path / "images.npz.lock")
    write_once(tmp_path / "images.npz", save)
    assert written == [6]
    assert os.listdir(tmp_path) == ["images.npz"]
