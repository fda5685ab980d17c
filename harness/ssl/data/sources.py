"""Data sets as uint8 tensors.

The validation images are held out of the labelled training images by a draw that does not depend on the seed, so that
all cells of an experiment choose and are watched on the same images, and the test images are touched once, at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness import datasets
from harness.catalog import TRAINING_VERSION
from harness.cell import Dataset
from harness.datasets import Array, Arrays, DatasetFiles, ImageFolder
from harness.datasets.base import UNLABELLED
from harness.datasets.class_folders import scan
from harness.datasets.image_folder import IMAGE_FOLDER, cached_images
from harness.errors import UserError
from harness.random_streams import permutation
from harness.ssl.data.cache import kept_whole, write_once
from harness.ssl.data.packed_images import open_packed, pack
from harness.ssl.data.split import Data, Split, labelled_images
from harness.ssl.data.streaming import Stream

BLOCK = 1024  # images


def load(dataset: Dataset, root: str | None) -> Data:
    """Read the data set into memory on the CPU, or prepare its stream.

    Raises:
        UserError: the files are missing, or are not those that the cell was declared with.
    """
    if dataset.stream:
        return _streamed(dataset, root)
    files = _declared_files(dataset, root)
    entry, folder = datasets.named(dataset.name), Path(files.folder)
    arrays = _decoded(entry, folder, dataset) if isinstance(entry, ImageFolder) else entry.read(folder)
    return _split(arrays, dataset)


def _declared_files(dataset: Dataset, root: str | None) -> DatasetFiles:
    files = datasets.find(dataset.name, root)
    if files.fingerprint != dataset.fingerprint:
        raise UserError(
            f"the files in {files.folder} are not those this cell was declared with "
            f"(fingerprint {files.fingerprint}, declared {dataset.fingerprint})",
            where="dataset.root",
            next_command="harness sweep EXPERIMENT, which declares cells for the present files",
        )
    return files


def _streamed(dataset: Dataset, root: str | None) -> Data:
    """Return an image folder that is read while it is used; once it is packed its many files are not even listed."""
    path = cached_images(dataset)
    if not path.exists():
        files = scan(Path(_declared_files(dataset, root).folder))
        pack(path, files.train, files.test)
    packed = open_packed(path)

    def stream(rows: npt.NDArray[np.int64]) -> Stream:
        labels = torch.from_numpy(packed.index["label"][rows].astype(np.int64))
        return Stream(packed, rows, dataset.image_size, labels)

    bank, validation = _held_out(packed.train, dataset.validation)
    train, test = stream(bank), np.arange(packed.train, len(packed.index))
    key = f"{dataset.fingerprint}-{dataset.image_size}-{dataset.validation}-v{TRAINING_VERSION}"
    mean, std = _cached_statistics(train, path.with_name(f"{key}.statistics.npy"))
    return Data(train, train, stream(validation), stream(test), mean, _divisors(std, std == 0, dataset))


def _cached_statistics(train: Stream, path: Path) -> tuple[Tensor, Tensor]:
    """Return the channel means and deviations of the training images, computed once.

    Decoding the images that pin them takes a core half a minute, which would be at the start of every cell.
    """

    def save(file: IO[bytes]) -> None:
        np.save(file, torch.stack(_pixel_statistics(train.take(_sample(len(train))).batches(128))).numpy())

    write_once(path, save)
    with kept_whole(path):
        mean, std = torch.from_numpy(np.load(path))
    return mean, std


def _pixel_statistics(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel of RGB images, uint8 (b, 3, H, W), in [0, 1]; by counting, so that no
    sum is rounded."""
    counts = torch.zeros(3, 256, dtype=torch.double)
    for pixels in batches:
        counts += torch.stack([pixels[:, channel].flatten().bincount(minlength=256) for channel in range(3)])
    levels, shares = torch.arange(256) / 255, counts / counts.sum(1, keepdim=True)
    mean = shares @ levels.double()
    std = (shares * (levels - mean[:, None]).square()).sum(1).sqrt()
    return mean.float(), std.float()


def _held_out(labelled: int, fraction: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows of labelled images that are trained on, and of those that are held out for validation."""
    order = permutation(0, "validation split", labelled)
    held_out = round(labelled * fraction)
    # Sorted, so that neighbours on disk stay neighbours in memory.
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def _sample(count: int) -> slice:
    """Return about 4,096 rows, evenly spread, which pin the channel statistics to three digits."""
    return slice(None, None, max(1, count // 4096))


def _divisors(std: Tensor, constant: Tensor, dataset: Dataset) -> Tensor:
    """Return what the channels are divided by: their deviations, but 1 for a channel that is the same everywhere.

    Raises:
        UserError: no pixel of an image folder differs from another.
    """
    if constant.all() and dataset.name == IMAGE_FOLDER.name:
        raise UserError(
            "all training images have one and the same colour: there is nothing to learn",
            where="dataset.root",
            allowed="images that differ; 16 bits are read if they are grey",
            next_command="harness sweep EXPERIMENT dataset.root=OTHER_FOLDER",
        )
    if constant.any():
        channels = ", ".join(map(str, constant.nonzero().flatten().tolist()))
        print(f"channel {channels} is the same in all training images and is not scaled", file=sys.stderr)
    return torch.where(constant, 1.0, std)


def _split(arrays: Arrays, dataset: Dataset) -> Data:
    labelled = int((arrays.train_labels != UNLABELLED).sum())
    bank, validation = _held_out(labelled, dataset.validation)
    train = np.concatenate([bank, np.arange(labelled, len(arrays.train_labels))])
    sample = _rows(arrays.train, train[_sample(len(train))]).astype(np.float32)
    sample /= 255
    mean, std = torch.from_numpy(sample.mean((0, 2, 3))), torch.from_numpy(sample.std((0, 2, 3)))
    # Not by the deviation, which rounding keeps from being 0.
    constant = torch.from_numpy(sample.min((0, 2, 3)) == sample.max((0, 2, 3)))
    del sample
    train_split = _as_split(_rows(arrays.train, train), arrays.train_labels[train])
    return Data(
        train=train_split,
        bank=labelled_images(train_split, len(bank)),
        validation=_as_split(_rows(arrays.train, validation), arrays.train_labels[validation]),
        test=_as_split(arrays.test, arrays.test_labels),
        mean=mean,
        std=_divisors(std, constant, dataset),
    )


def _rows(parts: Sequence[Array], rows: npt.NDArray[np.int64]) -> Array:
    """Return rows of the parts, which follow one another, in one new array.

    They are copied in blocks: a part may be a mapped file whose bytes are in another order, and would else be held a
    second time.
    """
    chosen = np.empty((len(rows), *parts[0].shape[1:]), dtype=np.uint8)
    first = 0
    for part in parts:
        inside = np.flatnonzero((first <= rows) & (rows < first + len(part)))
        for begin in range(0, len(inside), BLOCK):
            block = inside[begin : begin + BLOCK]
            chosen[block] = part[rows[block] - first]
        first += len(part)
    return chosen


def _as_split(pixels: Array, labels: Array) -> Split:
    return Split(
        torch.from_numpy(np.require(pixels, requirements=["C", "W"])), torch.from_numpy(labels.astype(np.int64))
    )


def _decoded(entry: ImageFolder, folder: Path, dataset: Dataset) -> Arrays:
    """Return the pixels of an image folder, decoded once and kept in the user's cache."""
    path = cached_images(dataset)

    def save(file: IO[bytes]) -> None:
        arrays = entry.read(folder, dataset.image_size)
        (train,) = arrays.train
        np.savez(file, train=train, train_labels=arrays.train_labels, test=arrays.test, test_labels=arrays.test_labels)

    write_once(path, save)
    with kept_whole(path), np.load(path) as cached:
        return Arrays([cached["train"]], cached["train_labels"], cached["test"], cached["test_labels"])
