"""Data sets as uint8 tensors: train, validation and test.

The validation images are held out of the training images by a draw that does not depend on the seed, so that all
cells of an experiment choose and are watched on the same images, and the test images are touched once, at the end.
"""

from __future__ import annotations

import gzip
import os
import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.catalog import DATASETS, TRAINING_VERSION
from harness.cell import Dataset
from harness.dataset_files import CIFAR10_FILES, FASHION_MNIST_FILES, cache_folder, find, held_out_split, images
from harness.errors import UserError
from harness.ssl.streams import permutation

Array = npt.NDArray[np.generic]
Arrays = tuple[Array, Array, Array, Array]  # train images, train labels, test images, test labels


@dataclass(frozen=True)
class Split:
    """``images``: uint8 (n, C, H, W); ``labels``: int64 (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.images.shape[0]

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Data:
    """Three splits, and the channel means and deviations of the training images, in [0, 1]."""

    train: Split
    validation: Split
    test: Split
    mean: Tensor
    std: Tensor

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    def to(self, device: torch.device) -> Data:
        train, validation, test = (split.to(device) for split in (self.train, self.validation, self.test))
        return Data(train, validation, test, self.mean.to(device), self.std.to(device))


def load(dataset: Dataset, root: str | None) -> Data:
    """Read the data set on the CPU.

    Raises:
        UserError: the files are missing, or are not those that the cell was declared with.
    """
    files = find(dataset.name, root)
    if files.fingerprint != dataset.fingerprint:
        raise UserError(
            f"the files in {files.folder} are not those this cell was declared with "
            f"(fingerprint {files.fingerprint}, declared {dataset.fingerprint})",
            where="dataset.root",
            next_command="harness sweep EXPERIMENT, which declares cells for the present files",
        )
    read = {"digits": _digits, "fashion_mnist": _fashion_mnist, "cifar10": _cifar10}
    if dataset.name == "imagefolder":
        arrays = _packed(Path(files.folder), files.fingerprint, dataset.image_size)
    else:
        arrays = read[dataset.name](Path(files.folder))
    return _split(arrays, dataset.validation)


def _split(arrays: Arrays, fraction: float) -> Data:
    train_images, train_labels, test_images, test_labels = arrays
    order = permutation(0, "validation split", len(train_images))
    held_out = round(len(order) * fraction)
    # Sorted, so that neighbours on disk stay neighbours in memory.
    validation, train = np.sort(order[:held_out]), np.sort(order[held_out:])
    # Some 4,096 images, evenly spread, pin the channel statistics to three digits.
    sample = train_images[train[:: max(1, len(train) // 4096)]].astype(np.float32) / 255
    return Data(
        train=_as_split(train_images[train], train_labels[train]),
        validation=_as_split(train_images[validation], train_labels[validation]),
        test=_as_split(test_images, test_labels),
        mean=torch.from_numpy(sample.mean((0, 2, 3))),
        std=torch.from_numpy(sample.std((0, 2, 3))),
    )


def _as_split(pixels: Array, labels: Array) -> Split:
    return Split(
        torch.from_numpy(np.require(pixels, requirements=["C", "W"])), torch.from_numpy(labels.astype(np.int64))
    )


def _digits(folder: Path) -> Arrays:
    """1,797 digits of 8x8 in 17 grey levels; there is no official split, so a fixed draw takes 360 for the test."""
    with gzip.open(folder / "digits.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",")
    pixels = np.rint(table[:, :-1].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.uint8)
    order = permutation(0, "digits test split", len(pixels))
    held_out = DATASETS["digits"].test
    test, train = order[:held_out], order[held_out:]
    return pixels[train], labels[train], pixels[test], labels[test]


def _fashion_mnist(folder: Path) -> Arrays:
    train_images, train_labels, test_images, test_labels = (_idx(folder / name) for name in FASHION_MNIST_FILES)
    return train_images[:, None], train_labels, test_images[:, None], test_labels


def _idx(path: Path) -> Array:
    """An IDX file (LeCun's MNIST format): two zero bytes, type, number of dimensions, big-endian sizes, the data."""
    raw = path.read_bytes() if path.exists() else gzip.decompress(path.with_name(path.name + ".gz").read_bytes())
    header = 4 + 4 * raw[3]
    shape = np.frombuffer(raw[4:header], dtype=">i4")
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)


def _cifar10(folder: Path) -> Arrays:
    batches = []
    for name in CIFAR10_FILES:
        with (folder / name).open("rb") as file:
            batches.append(pickle.load(file, encoding="latin1"))
    pixels = [batch["data"].reshape(-1, 3, 32, 32) for batch in batches]
    labels = [np.array(batch["labels"], dtype=np.uint8) for batch in batches]
    return np.concatenate(pixels[:-1]), np.concatenate(labels[:-1]), pixels[-1], labels[-1]


def _packed(folder: Path, fingerprint: str, size: int) -> Arrays:
    """An image folder's pixels, decoded once and kept in the user's cache."""
    packed = cache_folder() / "images" / f"{fingerprint}-{size}-v{TRAINING_VERSION}.npz"
    if not packed.exists():
        classes = sorted({path.parent.name for path in images(folder / "train")})
        train = _decode(images(folder / "train"), classes, size)
        test = _decode(images(held_out_split(folder)), classes, size)
        packed.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=packed.parent, suffix=".npz", delete=False) as file:
            np.savez(file, train=train[0], train_labels=train[1], test=test[0], test_labels=test[1])
        os.replace(file.name, packed)
    with np.load(packed) as stored:
        return stored["train"], stored["train_labels"], stored["test"], stored["test_labels"]


def _decode(paths: Sequence[Path], classes: list[str], size: int) -> tuple[Array, Array]:
    """RGB pixels (n, 3, size, size): the shorter side scaled to ``size``, the centre cut out."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    pixels = np.empty((len(paths), 3, size, size), dtype=np.uint8)
    for row, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                fitted = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"cannot read the image: {error}", where=str(path)) from None
        pixels[row] = np.asarray(fitted).transpose(2, 0, 1)
    labels = np.array([classes.index(path.parent.name) for path in paths], dtype=np.int64)
    return pixels, labels
