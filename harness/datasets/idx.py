"""Data sets in MNIST's format: four IDX files, plain or compressed."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from harness.datasets.base import Array, Arrays, DatasetMissing, FixedDataset
from harness.errors import UserError

IDX_FILES = tuple(f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


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
        train, train_labels, test, test_labels = (self._read(folder / name) for name in IDX_FILES)
        if (len(train), len(test)) != (len(train_labels), len(test_labels)):
            raise self._damaged(folder, "the files have another number of images than of labels")
        return Arrays([train[:, None]], train_labels, test[:, None], test_labels)

    def _read(self, path: Path) -> Array:
        try:
            return _read_idx(path)
        except (OSError, EOFError, LookupError, ValueError, zlib.error) as error:
            raise self._damaged(_plain_or_compressed(path) or path, f"the file cannot be read: {error}") from None

    def _damaged(self, path: Path, what: str) -> UserError:
        if self.debian and path.is_relative_to(self.debian):
            return UserError(
                what, where=str(path), next_command=f"apt-get install --reinstall dataset-{self.debian.name}"
            )
        folder = path if path.is_dir() else path.parent
        again = self.download_command(str(folder.parents[1]))
        return UserError(what, where=str(path), next_command=f"rm -r {folder} && {again}")


def _plain_or_compressed(path: Path) -> Path | None:
    compressed = path.with_name(f"{path.name}.gz")
    return next((candidate for candidate in (path, compressed) if candidate.exists()), None)


def _read_idx(path: Path) -> Array:
    """Return the array of a file: two zero bytes, the type, the number of dimensions, big-endian sizes, the data."""
    import numpy as np

    raw = path.read_bytes() if path.exists() else gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes())
    header = 4 + 4 * raw[3]
    shape = np.frombuffer(raw[4:header], dtype=">i4")
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)
