"""Data sets as uint8 tensors: train, bank, validation and test.

The validation images are held out of the labelled training images by a draw that does not depend on the seed, so that
all cells of an experiment choose and are watched on the same images, and the test images are touched once, at the end.
"""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.catalog import TRAINING_VERSION
from harness.catalog.datasets import DATASETS
from harness.cell import Dataset, Views
from harness.dataset_files import (
    CIFAR10_FILES,
    CIFAR100_FILES,
    FASHION_MNIST_FILES,
    STL10_FILES,
    DatasetFiles,
    download_command,
    find,
    held_out_split,
    images,
    kept_images,
)
from harness.errors import UserError
from harness.ssl.data import augment, augmentation_parameters
from harness.ssl.data.augment import LocalViews
from harness.ssl.data.cache import write_once
from harness.ssl.data.packed_images import open_packed, pack
from harness.ssl.data.streaming import Stream
from harness.ssl.random_streams import permutation

Array = npt.NDArray[np.generic]
#: Train images in parts that follow one another, train labels, test images, test labels. Labelled images come first;
#: the others have the label -1.
Arrays = tuple[Sequence[Array], Array, Array, Array]

UNLABELLED = -1
BLOCK = 1024  # images


@dataclass(frozen=True)
class Split:
    """``images``: uint8 (n, C, H, W); ``labels``: int64 (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, rows: Tensor | slice) -> Split:
        return Split(self.images[rows], self.labels[rows])

    def batches(self, size: int) -> Iterator[Tensor]:
        """All images in turn, uint8 (b, C, H, W)."""
        yield from self.images.split(size)

    def iter_views(self, owns: Sequence[Tensor], draws: Tensor, settings: Views) -> Generator[LocalViews, None, None]:
        """The augmented views of one step's samples after the other's. Whoever stops early closes the generator.

        Args:
            owns: the rows of this rank's samples, at each step that is left of the epoch.
            draws: of the epoch's v views, (v, n, columns(settings)), on the host.
        """
        rows, side = torch.cat(list(owns)).cpu(), self.images.shape[3]
        written = augmentation_parameters.resolve(draws[:, rows], settings, self.channels, side, side).to(
            self.images.device
        )

        def share(own: Tensor, recipe: Tensor, part: slice) -> Tensor:
            return augment.augment(self.images.index_select(0, own[part]), recipe[:, part], settings)

        by_step = zip(owns, written.split([len(own) for own in owns], 1), strict=True)
        return (partial(share, own, recipe) for own, recipe in by_step)


@dataclass(frozen=True)
class Data:
    """The splits, and the channel means and deviations of the training images, in [0, 1].

    ``train``: all images to learn from, those without a label marked -1; ``bank``: the labelled ones among them, for
    nearest neighbours and the linear probe, which is ``train`` itself where all are.
    """

    train: Split | Stream
    bank: Split | Stream
    validation: Split | Stream
    test: Split | Stream
    mean: Tensor
    std: Tensor

    @property
    def channels(self) -> int:
        return self.train.channels

    def to(self, device: torch.device) -> Data:
        train, validation, test = (split.to(device) for split in (self.train, self.validation, self.test))
        bank = _bank(train, len(self.bank))
        return Data(train, bank, validation, test, self.mean.to(device), self.std.to(device))


def load(dataset: Dataset, root: str | None) -> Data:
    """Read the data set on the CPU.

    Raises:
        UserError: the files are missing, or are not those that the cell was declared with.
    """
    if dataset.stream:
        return _streamed(dataset, root)
    files = _declared(dataset, root)
    read = {
        "digits": _digits,
        "fashion_mnist": _fashion_mnist,
        "cifar10": _cifar10,
        "cifar100": _cifar100,
        "stl10": _stl10,
    }
    if dataset.name == "imagefolder":
        arrays = _cropped(Path(files.folder), dataset)
    else:
        arrays = read[dataset.name](Path(files.folder))
    return _split(arrays, dataset.validation)


def _declared(dataset: Dataset, root: str | None) -> DatasetFiles:
    files = find(dataset.name, root)
    if files.fingerprint != dataset.fingerprint:
        raise UserError(
            f"the files in {files.folder} are not those this cell was declared with "
            f"(fingerprint {files.fingerprint}, declared {dataset.fingerprint})",
            where="dataset.root",
            next_command="harness sweep EXPERIMENT, which declares cells for the present files",
        )
    return files


def _streamed(dataset: Dataset, root: str | None) -> Data:
    """An image folder that is read while it is used; once it is packed its many files are not even listed."""
    path = kept_images(dataset)
    if not path.exists():
        folder = Path(_declared(dataset, root).folder)
        pack(path, images(folder / "train"), images(held_out_split(folder)))
    packed = open_packed(path)

    def stream(rows: npt.NDArray[np.int64]) -> Stream:
        labels = torch.from_numpy(packed.index["label"][rows].astype(np.int64))
        return Stream(packed, rows, dataset.image_size, labels)

    bank, validation = _held_out(packed.train, dataset.validation)
    train, test = stream(bank), np.arange(packed.train, len(packed.index))
    told = f"{dataset.fingerprint}-{dataset.image_size}-{dataset.validation}-v{TRAINING_VERSION}"
    mean, std = _kept_statistics(train, path.with_name(f"{told}.statistics.npy"))
    return Data(train, train, stream(validation), stream(test), mean, std)


def _kept_statistics(train: Stream, path: Path) -> tuple[Tensor, Tensor]:
    """Decoding the images that pin them takes a core half a minute: once, not at the start of every cell."""

    def save(file: IO[bytes]) -> None:
        np.save(file, torch.stack(_pixel_statistics(train.take(_sample(len(train))).batches(128))).numpy())

    write_once(path, save)
    mean, std = torch.from_numpy(np.load(path))
    return mean, std


def _pixel_statistics(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of RGB images, uint8 (b, 3, H, W), in [0, 1]; counted, so that no sum is
    rounded."""
    counts = torch.zeros(3, 256, dtype=torch.double)
    for pixels in batches:
        counts += torch.stack([pixels[:, channel].flatten().bincount(minlength=256) for channel in range(3)])
    levels, shares = torch.arange(256) / 255, counts / counts.sum(1, keepdim=True)
    mean = shares @ levels.double()
    std = (shares * (levels - mean[:, None]).square()).sum(1).sqrt()
    return mean.float(), std.float()


def _held_out(labelled: int, fraction: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The labelled training images that stay, and those that are held out for validation."""
    order = permutation(0, "validation split", labelled)
    held_out = round(labelled * fraction)
    # Sorted, so that neighbours on disk stay neighbours in memory.
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def _sample(count: int) -> slice:
    """Some 4,096 images, evenly spread, pin the channel statistics to three digits."""
    return slice(None, None, max(1, count // 4096))


def _split(arrays: Arrays, fraction: float) -> Data:
    parts, train_labels, test_images, test_labels = arrays
    labelled = int((train_labels != UNLABELLED).sum())
    bank, validation = _held_out(labelled, fraction)
    train = np.concatenate([bank, np.arange(labelled, len(train_labels))])
    sample = _rows(parts, train[_sample(len(train))]).astype(np.float32)
    sample /= 255
    mean, std = torch.from_numpy(sample.mean((0, 2, 3))), torch.from_numpy(sample.std((0, 2, 3)))
    del sample
    train_split = _as_split(_rows(parts, train), train_labels[train])
    return Data(
        train=train_split,
        bank=_bank(train_split, len(bank)),
        validation=_as_split(_rows(parts, validation), train_labels[validation]),
        test=_as_split(test_images, test_labels),
        mean=mean,
        std=std,
    )


def _bank(train: Split | Stream, labelled: int) -> Split | Stream:
    """The labelled training images, which come first."""
    return train if labelled == len(train) else train.take(slice(labelled))


def _rows(parts: Sequence[Array], rows: npt.NDArray[np.int64]) -> Array:
    """Rows of the parts, which follow one another, in one new array.

    In blocks: a part may be a mapped file whose bytes are in another order, and would else be held a second time.
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


def _digits(folder: Path) -> Arrays:
    """1,797 digits of 8x8 in 17 grey levels; there is no official split, so a fixed draw takes 360 for the test."""
    with gzip.open(folder / "digits.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",")
    pixels = np.rint(table[:, :-1].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.uint8)
    order = permutation(0, "digits test split", len(pixels))
    held_out = DATASETS["digits"].test
    test, train = order[:held_out], order[held_out:]
    return [pixels[train]], labels[train], pixels[test], labels[test]


def _fashion_mnist(folder: Path) -> Arrays:
    train_images, train_labels, test_images, test_labels = (_idx(folder / name) for name in FASHION_MNIST_FILES)
    return [train_images[:, None]], train_labels, test_images[:, None], test_labels


def _idx(path: Path) -> Array:
    """An IDX file (LeCun's MNIST format): two zero bytes, type, number of dimensions, big-endian sizes, the data."""
    raw = path.read_bytes() if path.exists() else gzip.decompress(path.with_name(path.name + ".gz").read_bytes())
    header = 4 + 4 * raw[3]
    shape = np.frombuffer(raw[4:header], dtype=">i4")
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)


def _cifar10(folder: Path) -> Arrays:
    return _cifar("cifar10", [folder / name for name in CIFAR10_FILES], "labels")


def _cifar100(folder: Path) -> Arrays:
    return _cifar("cifar100", [folder / name for name in CIFAR100_FILES], "fine_labels")


def _cifar(name: str, paths: Sequence[Path], key: str) -> Arrays:
    """Pickled batches, of which the last is the test's; all training batches are of one size."""
    entry = DATASETS[name]
    assert entry.train is not None
    assert entry.test is not None
    wanted = [entry.train // (len(paths) - 1)] * (len(paths) - 1) + [entry.test]
    batches = [_cifar_batch(name, path, key, count) for path, count in zip(paths, wanted, strict=True)]
    *train, (test_images, test_labels) = batches
    return [pixels for pixels, _ in train], np.concatenate([labels for _, labels in train]), test_images, test_labels


def _cifar_batch(name: str, path: Path, key: str, count: int) -> tuple[Array, Array]:
    """``data``: rows of 3 planes of 32x32 pixels; ``key``: their labels."""

    def broken(what: str) -> UserError:
        return UserError(what, where=str(path), next_command=download_command(name, str(path.parents[1])))

    try:
        with path.open("rb") as file:
            batch = pickle.load(file, encoding="latin1")
        pixels, labels = batch["data"].reshape(-1, 3, 32, 32), np.array(batch[key], dtype=np.uint8)
    except (EOFError, LookupError, TypeError, ValueError, AttributeError, ImportError, pickle.UnpicklingError) as error:
        raise broken(f"the file cannot be read: {error!r}") from None
    if not len(pixels) == len(labels) == count:
        raise broken(f"the file has {len(pixels):,} images and {len(labels):,} labels instead of {count:,}")
    return pixels, labels


def _stl10(folder: Path) -> Arrays:
    """100,000 images without labels beside 5,000 with them; ``find`` has checked the files' sizes."""
    train_images, train_labels, unlabelled, test_images, test_labels = (folder / name for name in STL10_FILES)
    size = DATASETS["stl10"].size
    assert size is not None
    parts = [_stl10_images(train_images, size), _stl10_images(unlabelled, size)]
    labels = np.full(sum(map(len, parts)), UNLABELLED)
    labels[: len(parts[0])] = _stl10_labels(train_labels)
    return parts, labels, _stl10_images(test_images, size), _stl10_labels(test_labels)


def _stl10_images(path: Path, size: int) -> Array:
    """Planes in column-major order, red first; mapped, because 2.8 GB are read once and copied once."""
    return np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, 3, size, size).transpose(0, 1, 3, 2)


def _stl10_labels(path: Path) -> Array:
    """From 0; in the file, from 1."""
    return np.fromfile(path, dtype=np.uint8).astype(np.int64) - 1


def _cropped(folder: Path, dataset: Dataset) -> Arrays:
    """An image folder's pixels, decoded once and kept in the user's cache."""
    cropped, size = kept_images(dataset), dataset.image_size

    def save(file: IO[bytes]) -> None:
        classes = sorted({path.parent.name for path in images(folder / "train")})
        train, train_labels = _decode(images(folder / "train"), classes, size)
        test, labels = _decode(images(held_out_split(folder)), classes, size)
        np.savez(file, train=train, train_labels=train_labels, test=test, test_labels=labels)

    write_once(cropped, save)
    with np.load(cropped) as stored:
        return [stored["train"]], stored["train_labels"], stored["test"], stored["test_labels"]


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
