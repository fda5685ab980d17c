"""The ways in which a file is damaged: what disks, people and half a copy do to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def halved(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flipped(path: Path) -> None:
    """Flip one bit in the middle: of a digit where the file is text, so that it can still be read."""
    content = bytearray(path.read_bytes() or b"\0")
    digits = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    binary = path.suffix in (".pt", ".safetensors")
    place = len(content) // 2 if binary or not digits else digits[len(digits) // 2]
    content[place] ^= 1
    path.write_bytes(content)


def removed(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def folder(path: Path) -> None:
    removed(path)
    path.mkdir()


def wrong_type(path: Path) -> None:
    path.write_text('[1, "two"]\n')


def wrong_fields(path: Path) -> None:
    path.write_text(json.dumps({"other": 1, "step": "x", "metrics": "y"}) + "\n")


def file(path: Path) -> None:
    """A file in the place of a folder."""
    removed(path)
    path.write_text("a file\n")


WAYS: tuple[Callable[[Path], None], ...] = (emptied, halved, flipped, removed, folder, wrong_type, wrong_fields)
#: Those that can be told from a file of an earlier version, and from none.
PLAIN = (emptied, halved, flipped, folder, wrong_type)
