"""A folder of images, one subfolder for each class: any images of the user's, such as ImageNet's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.catalog import TRAINING_VERSION
from harness.cell import Dataset
from harness.datasets.base import Array, Arrays, DatasetFiles, DatasetMissing
from harness.datasets.class_folders import LAYOUT, LabelledFiles, scan
from harness.datasets.fingerprint import Content, content_of
from harness.datasets.image_pixels import REFUSED, SIXTEEN_BITS, UnreadImages, properties, square, unreadable
from harness.errors import printable
from harness.files import cache_folder


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """Images whose number is known from their files only; all are cut to the declared size, in three channels."""

    name: str
    label: str
    channels: int = 3

    def find(self, root: str | None) -> DatasetFiles:
        """Locate the files and identify their content.

        Raises:
            DatasetMissing: they are not there.
            UserError: a file or folder cannot be read, or the test images have a class that the training images do not
                have.
        """
        if root is None:
            what = "an image folder needs its root"
            raise DatasetMissing(what, where="dataset.root", allowed=LAYOUT, next_command="dataset.root=FOLDER")
        folder = Path(root).resolve()
        files = scan(folder)
        content = content_of(folder, files.train.paths + files.test.paths, properties)
        train, test = len(files.train.paths), len(files.test.paths)
        notes = (*files.notes, *_checked(content, folder))
        size, fingerprint = content.size, _of_pixels(content)
        return DatasetFiles(str(folder), fingerprint, train, test, self.channels, train, size, notes)

    def read(self, folder: Path, image_size: int) -> Arrays:
        """Decode all images, in squares of ``image_size`` pixels.

        Raises:
            UserError: an image cannot be read.
        """
        files = scan(folder)
        train, train_labels = _decode(files.train, image_size)
        test, test_labels = _decode(files.test, image_size)
        return Arrays([train], train_labels, test, test_labels)


def _checked(content: Content, folder: Path) -> Iterator[str]:
    """Yield a sentence about each kind of images that are not read as they are.

    Raises:
        UserError: some of them cannot be read.
    """
    for what, which in content.peculiar.items():
        if what.startswith(REFUSED):
            more = f" (and {which.count - 1:,} more images)" if which.count > 1 else ""
            raise unreadable(Path(which.first), what.removeprefix(REFUSED) + more)
        yield printable(f"{which.count:,} {what}: the first is {os.path.relpath(which.first, folder)}")


def _of_pixels(content: Content) -> str:
    """Return the fingerprint of the pixels that are read.

    It is that of the files, but where there are grey images of 16 bits: in the version that gave the fingerprint of the
    files to cells, most of their pixels were white.
    """
    if SIXTEEN_BITS not in content.peculiar:
        return content.fingerprint
    return hashlib.sha256(f"{content.fingerprint} scaled to 8 bits".encode()).hexdigest()[:16]


def _decode(files: LabelledFiles, size: int) -> tuple[Array, Array]:
    """Return RGB pixels (n, 3, size, size), the shorter side scaled to ``size`` and the centre cut out; and labels."""
    import numpy as np

    pixels, unread = np.empty((len(files.paths), 3, size, size), dtype=np.uint8), UnreadImages()
    for row, path in enumerate(files.paths):
        with unread.collected():
            pixels[row] = square(path, size)
    unread.refuse()
    return pixels, np.array(files.labels, dtype=np.int64)


def cached_images(dataset: Dataset) -> Path:
    """Return the cache's file for an image folder: its files in one if they are streamed, else decoded pixels."""
    pixels = f"{dataset.fingerprint}-{dataset.image_size}-v{TRAINING_VERSION}.npz"
    return cache_folder() / "images" / (f"{dataset.fingerprint}.packed" if dataset.stream else pixels)


def bytes_to_cache(datasets: Iterable[Dataset], files: DatasetFiles, *, elsewhere: bool = False) -> int:
    """Return the bytes that the first cells of these data sets will write into the cache, of image folders only.

    Args:
        datasets: of the cells, all with the same ``files``.
        files: what they hold.
        elsewhere: the cache is another machine's, which has none of the images yet.
    """
    cached = {cached_images(dataset): dataset for dataset in datasets if dataset.name == IMAGE_FOLDER.name}
    return sum(_cached_bytes(dataset, files) for path, dataset in cached.items() if elsewhere or not path.exists())


def _cached_bytes(dataset: Dataset, files: DatasetFiles) -> int:
    pixels = (files.train + files.test) * files.channels * dataset.image_size**2
    return files.size if dataset.stream else pixels


IMAGE_FOLDER = ImageFolder(name="imagefolder", label="image folder")
