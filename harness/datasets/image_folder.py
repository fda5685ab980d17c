"""A folder of images, one subfolder for each class: any images of the user's, such as ImageNet's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.catalog import TRAINING_VERSION
from harness.cell import Dataset
from harness.datasets.base import Array, Arrays, DatasetFiles, DatasetMissing
from harness.datasets.fingerprint import content_fingerprint
from harness.errors import UserError
from harness.files import cache_folder

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
LAYOUT = "FOLDER/train/<class>/*.jpg and FOLDER/test/<class>/*.jpg (or val/ for test/)"


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
            UserError: the test images have a class that the training images do not have.
        """
        if root is None:
            what = "an image folder needs its root"
            raise DatasetMissing(what, where="dataset.root", allowed=LAYOUT, next_command="dataset.root=FOLDER")
        folder = Path(root).resolve()
        held_out = held_out_folder(folder)
        train, test = image_files(folder / "train"), image_files(held_out)
        if not train or not test:
            raise DatasetMissing(f"no images below {folder}/train and {held_out}", where="dataset.root", allowed=LAYOUT)
        classes = {path.parent.name for path in train}
        if unknown := sorted({path.parent.name for path in test} - classes):
            raise UserError(
                f"{held_out.name}/ has classes that train/ does not have: {', '.join(unknown[:5])}",
                where="dataset.root",
                allowed=", ".join(sorted(classes)[:10]),
            )
        fingerprint, size = content_fingerprint(folder, train + test)
        return DatasetFiles(str(folder), fingerprint, len(train), len(test), self.channels, len(train), size)

    def read(self, folder: Path, image_size: int) -> Arrays:
        """Decode all images, in squares of ``image_size`` pixels.

        Raises:
            UserError: an image cannot be read.
        """
        classes = sorted({path.parent.name for path in image_files(folder / "train")})
        train, train_labels = _decode(image_files(folder / "train"), classes, image_size)
        test, test_labels = _decode(image_files(held_out_folder(folder)), classes, image_size)
        return Arrays([train], train_labels, test, test_labels)


def held_out_folder(folder: Path) -> Path:
    """Return ``test/``, or ``val/`` if there is no ``test/``."""
    return folder / "test" if (folder / "test").is_dir() else folder / "val"


def image_files(split: Path) -> list[Path]:
    """Return the image files ``split/<class>/<file>``, sorted by class and name."""
    if not split.is_dir():
        return []
    files = []
    for label in sorted(entry.path for entry in os.scandir(split) if entry.is_dir()):
        names = sorted(name for name in os.listdir(label) if name.lower().endswith(IMAGE_SUFFIXES))
        files += [Path(label, name) for name in names]
    return files


def _decode(paths: Sequence[Path], classes: list[str], size: int) -> tuple[Array, Array]:
    """Return RGB pixels (n, 3, size, size), the shorter side scaled to ``size`` and the centre cut out; and labels."""
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    pixels = np.empty((len(paths), 3, size, size), dtype=np.uint8)
    for row, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                square = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"cannot read the image: {error}", where=str(path)) from None
        pixels[row] = np.asarray(square).transpose(2, 0, 1)
    labels = np.array([classes.index(path.parent.name) for path in paths], dtype=np.int64)
    return pixels, labels


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
