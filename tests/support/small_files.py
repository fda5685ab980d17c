"""Small data sets of random pixels, written in the formats of the originals."""

from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from harness.datasets import DATASETS, FixedDataset
from harness.datasets.cifar import CIFAR10
from harness.datasets.class_folders import LabelledFiles
from harness.datasets.idx import IDX_FILES

Array = npt.NDArray[np.uint8]


def resize(monkeypatch: pytest.MonkeyPatch, name: str, *, train: int, test: int, labelled: int | None = None) -> None:
    """Make the catalogue expect the small data set."""
    dataset, unlabelled = DATASETS[name], train - labelled if labelled else 0
    assert isinstance(dataset, FixedDataset)
    monkeypatch.setitem(DATASETS, name, replace(dataset, train=train, test=test, unlabelled=unlabelled))


def write_fashion_mnist(root: Path, *, train: int = 20, test: int = 5, compressed: bool = False) -> list[Array]:
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shapes = ((train, 28, 28), (train,), (test, 28, 28), (test,))
    arrays = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    for name, array in zip(IDX_FILES, arrays, strict=True):
        header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}i", *array.shape)
        content = header + array.tobytes()
        (folder / (f"{name}.gz" if compressed else name)).write_bytes(gzip.compress(content) if compressed else content)
    return arrays


def write_cifar10(root: Path, *, batch: int = 12) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in CIFAR10.batches:
        rows = rng.integers(0, 256, (batch, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": rng.integers(0, 10, batch).tolist()}))


def write_cifar100(root: Path, *, train: int = 40, test: int = 10) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("train", train), ("test", test)):
        batch = {
            "filenames": [f"{name}_{number}.png" for number in range(count)],
            "batch_label": f"{name} batch 1 of 1",
            "fine_labels": rng.integers(0, 100, count).tolist(),
            "coarse_labels": rng.integers(0, 20, count).tolist(),
            "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = {"fine_label_names": [str(label) for label in range(100)]}
    (folder / "meta").write_bytes(pickle.dumps(names, protocol=2))
    return folder


def write_stl10(root: Path, *, labelled: int = 20, unlabelled: int = 30, test: int = 8) -> Path:
    folder = root / "stl10_binary"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("train", labelled), ("unlabeled", unlabelled), ("test", test)):
        (folder / f"{name}_X.bin").write_bytes(rng.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tobytes())
    for name, count in (("train", labelled), ("test", test)):
        (folder / f"{name}_y.bin").write_bytes((np.arange(count, dtype=np.uint8) % 10 + 1).tobytes())
    return folder


def image_folder(root: Path, colour: int = 0, split: str = "test") -> Path:
    """Cats and dogs, three training images of each and two test images, of 8 by 8 pixels."""
    for part, count in (("train", 3), (split, 2)):
        for label in ("cat", "dog"):
            (root / part / label).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), (colour, number, 0)).save(root / part / label / f"{number}.png")
    return root


def write_image_folder(root: Path) -> None:
    """Images that have the size already, so that no resampling is between them and their pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 3)):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{number}.png")


def labelled(train: Sequence[Path], test: Sequence[Path]) -> tuple[LabelledFiles, LabelledFiles]:
    """Files with the labels that the names of their folders have among those of the training images."""
    names = sorted({path.parent.name for path in train})
    files = [LabelledFiles(list(paths), [names.index(path.parent.name) for path in paths]) for paths in (train, test)]
    return files[0], files[1]
