"""Data sets in MNIST's format: four IDX files, plain or compressed."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

from harness.datasets.base import Array, Arrays, DatasetMissing, FixedDataset

IDX_FILES = tuple(f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


@dataclass(frozen=True, kw_only=True)
class IdxDataset(FixedDataset):
    """A relative of MNIST, in torchvision's folder ``<root>/<torchvision_class>/raw``.

    ``debian``: where Debian's package puts the same files; the package is named after the folder.
    """

    debian: Path | None = None

    def locate(self, root: str | None) -> tuple[Path, list[Path]]:
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
        train, train_labels, test, test_labels = (_read_idx(folder / name) for name in IDX_FILES)
        return Arrays([train[:, None]], train_labels, test[:, None], test_labels)


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
