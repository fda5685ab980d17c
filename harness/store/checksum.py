"""The checksum of a file of a record that is no JSON object: the curve, the weights."""

from __future__ import annotations

import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from harness.errors import DamagedFile, shortened
from harness.files import reading_error

WRITTEN = re.compile(r"crc32:([0-9a-f]{8}) of (\d+) bytes")
PIECE = 2**20


@dataclass(frozen=True)
class Checksum:
    """The CRC-32 of the first ``length`` bytes of a file; what a process has appended since is not looked at."""

    crc: int = 0
    length: int = 0

    def __str__(self) -> str:
        return f"crc32:{self.crc:08x} of {self.length} bytes"

    @classmethod
    def parse(cls, text: str) -> Checksum:
        """Return the checksum that a file holds as a string; another text is a ValueError."""
        found = WRITTEN.fullmatch(text)
        if not found:
            raise ValueError(f"no checksum: {text[:80]!r}")
        return cls(int(found[1], 16), int(found[2]))

    @classmethod
    def of(cls, path: Path, length: int | None = None) -> Checksum:
        """Return the checksum of a file, or of its first ``length`` bytes.

        Raises:
            DamagedFile: it cannot be read.
        """
        found, left = cls(), length
        try:
            with path.open("rb") as file:
                while piece := file.read(PIECE if left is None else min(PIECE, left)):
                    found = found.extended(piece)
                    left = None if left is None else left - len(piece)
        except OSError as error:
            raise unreadable(path, error) from None
        return found

    def extended(self, more: bytes) -> Checksum:
        """Return the checksum of the same bytes and these."""
        return Checksum(zlib.crc32(more, self.crc), self.length + len(more))

    def check(self, path: Path) -> None:
        """Check that a file begins with the bytes that this is the checksum of.

        Raises:
            DamagedFile: it does not, or it cannot be read.
        """
        if Checksum.of(path, self.length) != self:
            raise DamagedFile(path, self.mismatch(path.stat().st_size))

    def mismatch(self, length: int) -> str:
        """Return what is wrong with a file of this length that does not begin with these bytes."""
        if length < self.length:
            return f"it has {length} bytes of {self.length}"
        return "its content is not what its checksum was written for"


def check_parts(path: Path) -> None:
    """Check the parts of a checkpoint by their checksums, which torch writes and does not read.

    Raises:
        FileNotFoundError: there is no checkpoint.
        DamagedFile: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # noqa: BLE001  (a damaged table of contents is an error of any kind)
        raise DamagedFile(path, f"it cannot be read ({shortened(str(error), 100)})") from None
    if part is not None:
        raise DamagedFile(path, f"the checksum of its part {part} is another")


def unreadable(path: Path, error: OSError) -> Exception:
    """Return what to raise about a file that must be there and cannot be read."""
    if isinstance(error, FileNotFoundError):
        return DamagedFile(path, "it is missing")
    return reading_error(path, error)
