"""STL-10 (Coates et al. 2011): 13,000 colour images with labels and 100,000 without, of 96x96 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.datasets.base import UNLABELLED, Array, Arrays, FixedDataset
from harness.errors import UserError

STL10_FILES = ("train_X.bin", "train_y.bin", "unlabeled_X.bin", "test_X.bin", "test_y.bin")


@dataclass(frozen=True, kw_only=True)
class Stl10Dataset(FixedDataset):
    """Files of bare numbers, as torchvision unpacks them."""

    def locate(self, root: str | None) -> tuple[Path, list[Path]]:
        """Return the folder into which torchvision unpacks the archive, and its files, whose sizes are checked."""
        folder, files = self.torchvision_files(root, "stl10_binary", STL10_FILES)
        self._check_sizes(files, root)
        return folder, files

    def _check_sizes(self, files: list[Path], root: str | None) -> None:
        """Raise a UserError for a file that was cut short, as by a broken download: only its size tells."""
        image = self.channels * self.image_size**2
        sizes = (self.labelled * image, self.labelled, self.unlabelled * image, self.test * image, self.test)
        for path, expected in zip(files, sizes, strict=True):
            if (size := path.stat().st_size) != expected:
                raise UserError(
                    f"the file has {size:,} bytes instead of {expected:,}",
                    where=str(path),
                    next_command=self.download_command(root),
                )

    def read(self, folder: Path) -> Arrays:
        """Map the files into memory, uint8 (n, 3, 96, 96); images without a label follow the labelled ones."""
        import numpy as np

        train, train_labels, unlabelled, test, test_labels = (folder / name for name in STL10_FILES)
        parts = [self._images(train), self._images(unlabelled)]
        labels = np.full(sum(map(len, parts)), UNLABELLED)
        labels[: len(parts[0])] = _labels(train_labels)
        return Arrays(parts, labels, self._images(test), _labels(test_labels))

    def _images(self, path: Path) -> Array:
        """Return images, stored as planes in column-major order, red first; mapped, so that 2.8 GB are copied once."""
        import numpy as np

        pixels = np.memmap(path, dtype=np.uint8, mode="r")
        return pixels.reshape(-1, self.channels, self.image_size, self.image_size).transpose(0, 1, 3, 2)


def _labels(path: Path) -> Array:
    """Return the labels, counted from 0; in the file they are counted from 1."""
    import numpy as np

    return np.fromfile(path, dtype=np.uint8).astype(np.int64) - 1


STL10 = Stl10Dataset(
    name="stl10",
    label="STL-10",
    channels=3,
    image_size=96,
    train=105_000,
    unlabelled=100_000,
    test=8_000,
    torchvision_class="STL10",
)
