"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 60,000 colour images of 32x32 pixels each, in torchvision's files."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

from harness.datasets.base import Array, Arrays, FixedDataset
from harness.errors import UserError

#: What a damaged pickle, or one of something else, raises.
UNREADABLE = (EOFError, LookupError, TypeError, ValueError, AttributeError, ImportError, pickle.UnpicklingError)


@dataclass(frozen=True, kw_only=True)
class CifarDataset(FixedDataset):
    """Pickled batches in torchvision's ``subfolder``.

    ``batches``: their files, the test images last; all training batches are of one size. ``label_key``: the key of the
    labels in a batch.
    """

    subfolder: str
    batches: tuple[str, ...]
    label_key: str

    def locate(self, root: str | None) -> tuple[Path, list[Path]]:
        """Return the folder into which torchvision unpacks the archive, and the batches in it."""
        return self.torchvision_files(root, self.subfolder, self.batches)

    def read(self, folder: Path) -> Arrays:
        """Read the training batches, which stay apart, and the test batch; pixels are uint8 (n, 3, 32, 32)."""
        import numpy as np

        training_batches = len(self.batches) - 1
        counts = [self.train // training_batches] * training_batches + [self.test]
        read = [self._read_batch(folder / name, count) for name, count in zip(self.batches, counts, strict=True)]
        *train, (test, test_labels) = read
        return Arrays(
            [pixels for pixels, _ in train], np.concatenate([labels for _, labels in train]), test, test_labels
        )

    def _read_batch(self, path: Path, count: int) -> tuple[Array, Array]:
        """Images (count, 3, 32, 32), which are stored as rows of three planes, and their labels."""

        import numpy as np

        def damaged(what: str) -> UserError:
            return UserError(what, where=str(path), next_command=self.download_command(str(path.parents[1])))

        try:
            with path.open("rb") as file:
                batch = pickle.load(file, encoding="latin1")
            pixels, labels = batch["data"].reshape(-1, 3, 32, 32), np.array(batch[self.label_key], dtype=np.uint8)
        except UNREADABLE as error:
            raise damaged(f"the file cannot be read: {error!r}") from None
        if not len(pixels) == len(labels) == count:
            raise damaged(f"the file has {len(pixels):,} images and {len(labels):,} labels instead of {count:,}")
        return pixels, labels


CIFAR10 = CifarDataset(
    name="cifar10",
    label="CIFAR-10",
    channels=3,
    image_size=32,
    train=50_000,
    test=10_000,
    torchvision_class="CIFAR10",
    subfolder="cifar-10-batches-py",
    batches=(*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"),
    label_key="labels",
)
CIFAR100 = CifarDataset(
    name="cifar100",
    label="CIFAR-100",
    channels=3,
    image_size=32,
    train=50_000,
    test=10_000,
    torchvision_class="CIFAR100",
    subfolder="cifar-100-python",
    batches=("train", "test"),
    label_key="fine_labels",
)
