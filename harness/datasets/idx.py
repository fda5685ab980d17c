"""Data sets in MNIST's format: four IDX files, plain or compressed."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.datasets.base import Array, Arrays, DatasetMissing, FixedDataset
from harness.errors import UserError

IDX_FILES = tuple(f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
#: The first bytes of an IDX file whose values are unsigned bytes.
BYTES = b"\x00\x00\x08"


@dataclass(frozen=True, kw_only=True)
class IdxDataset(FixedDataset):
    """A relative of MNIST, in torchvision's folder ``<root>/<torchvision_class>/raw``.

    ``debian``: where Debian's package puts the same files; the package is named after the folder.
    """

    debian: Path | None = None

    def locate(self, root: str | None) -> tuple[Path, list[Path]]:
        """Return the folder that has all four files: torchvision's, or else the one of Debian's package."""
        torchvision_folder = Path(root or "data") / self.torchvision_class / "raw"
        for folder in (torchvision_folder, self.debian) if self.debian else (torchvision_folder,):
            files = [path for name in IDX_FILES if (path := _plain_or_compressed(folder / name))]
            if len(files) == len(IDX_FILES):
                return folder, files
        raise DatasetMissing(
            f"{self.label} is not on this machine",
            where="dataset.root",
            allowed=f"torchvision's files in {torchvision_folder}"
            + (f", or Debian's in {self.debian}" if self.debian else ""),
            next_command=f"apt-get install dataset-{self.debian.name}" if self.debian else self.download_command(root),
        )

    def read(self, folder: Path) -> Arrays:
        """Read the four files; pixels are uint8 (n, 1, H, W)."""
        (train, train_labels), (test, test_labels) = (
            self._split(folder / images, folder / labels) for images, labels in (IDX_FILES[:2], IDX_FILES[2:])
        )
        return Arrays([train[:, None]], train_labels, test[:, None], test_labels)

    def _split(self, images: Path, labels: Path) -> tuple[Array, Array]:
        """Return the images and labels of a split; as many of the one as of the other."""
        pixels = self._read(images, (self.image_size, self.image_size))
        classes = self._read(labels, ())
        if len(pixels) != len(classes):
            file = _plain_or_compressed(labels) or labels
            raise self._damaged(file, f"the file holds {len(classes):,} labels for {len(pixels):,} images")
        return pixels, classes

    def _read(self, path: Path, each: Sequence[int]) -> Array:
        """Return the array of a file; refuse one whose entries are no images or labels of this data set."""
        file = _plain_or_compressed(path) or path
        try:
            array = _read_idx(file)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise self._damaged(file, f"the file cannot be read: {error}") from None
        if array.shape[1:] != tuple(each):
            expected = f"n x {_by(each)}" if each else "n"
            raise self._damaged(file, f"the file holds {_by(array.shape)} bytes; {self.label} has {expected}")
        return array

    def _damaged(self, path: Path, what: str) -> UserError:
        if self.debian and path.is_relative_to(self.debian):
            return UserError(
                what, where=str(path), next_command=f"apt-get install --reinstall dataset-{self.debian.name}"
            )
        again = self.download_command(str(path.parents[2]))
        return UserError(what, where=str(path), next_command=f"rm -r {path.parent} && {again}")


def _plain_or_compressed(path: Path) -> Path | None:
    compressed = path.with_name(f"{path.name}.gz")
    return next((candidate for candidate in (path, compressed) if candidate.exists()), None)


def _read_idx(file: Path) -> Array:
    """Return the array of a file: two zero bytes, the type, the number of dimensions, big-endian sizes, the data.

    Raises:
        ValueError: the file is none of bytes, or holds more or less than its header says.
    """
    import numpy as np

    raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    if raw[:3] != BYTES or len(raw) < (header := 4 + 4 * raw[3]):
        raise ValueError(f"it does not begin as an IDX file of bytes does, but with {raw[:4].hex(' ') or 'nothing'}")
    shape = [int(size) for size in np.frombuffer(raw[4:header], dtype=">u4")]
    if math.prod(shape) != len(raw) - header:
        raise ValueError(f"its header says {_by(shape)} bytes, {math.prod(shape):,}, but {len(raw) - header:,} follow")
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(f"{size:,}" for size in shape)
