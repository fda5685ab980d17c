"""Data sets as tensors, each read from files in its own format."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from harness.cell import Dataset
from harness.dataset_files import FASHION_MNIST_FILES, find
from harness.errors import UserError
from harness.ssl.data.sources import load


def test_digits_are_scikit_learns() -> None:
    data = load(Dataset("digits", 8, 0.1, find("digits", None).fingerprint), None)
    assert (len(data.train), len(data.validation), len(data.test)) == (1293, 144, 360)
    ours = torch.cat([data.train.images, data.validation.images, data.test.images]).flatten(1)
    theirs = torch.from_numpy(np.rint(load_digits().data * 255 / 16).astype(np.uint8))
    assert sorted(ours.tolist()) == sorted(theirs.tolist())


def test_the_splits_share_no_image_and_do_not_depend_on_anything() -> None:
    dataset = Dataset("digits", 8, 0.1, find("digits", None).fingerprint)
    first, again = load(dataset, None), load(dataset, None)
    assert torch.equal(first.validation.images, again.validation.images)
    rows = {split: {tuple(row) for row in getattr(first, split).images.flatten(1).tolist()} for split in
            ("train", "validation", "test")}  # fmt: skip
    assert not rows["train"] & rows["validation"]
    assert not rows["train"] & rows["test"]


def write_idx(path: Path, array: np.ndarray) -> None:  # type: ignore[type-arg]
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}i", *array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.mark.parametrize("compressed", [False, True])
def test_fashion_mnist_is_read_from_idx_files(tmp_path: Path, compressed: bool) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((20, 28, 28), (20,), (5, 28, 28), (5,))]
    for name, array in zip(FASHION_MNIST_FILES, arrays, strict=True):
        write_idx(folder / name, array)
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
            (folder / name).unlink()
    data = load(Dataset("fashion_mnist", 28, 0.5, find("fashion_mnist", str(tmp_path)).fingerprint), str(tmp_path))
    assert data.channels == 1
    assert torch.equal(data.test.images[:, 0], torch.from_numpy(arrays[2]))
    assert sorted(torch.cat([data.train.labels, data.validation.labels]).tolist()) == sorted(arrays[1].tolist())


def test_cifar10_is_read_from_torchvisions_batches(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        # As in the original: three planes of 1,024 bytes an image, red first.
        rows = np.tile(np.repeat(np.array([10, 20, 30], dtype=np.uint8), 1024), (4, 1))
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": [0, 1, 2, 3]}))
    data = load(Dataset("cifar10", 32, 0.25, find("cifar10", str(tmp_path)).fingerprint), str(tmp_path))
    assert (len(data.train), len(data.validation), len(data.test)) == (15, 5, 4)
    assert data.train.images[0].flatten(1)[:, 0].tolist() == [10, 20, 30]
    assert data.mean.tolist() == pytest.approx([10 / 255, 20 / 255, 30 / 255])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, count in (("train", 4), ("test", 2)):
        for label, colour in (("cat", (200, 0, 0)), ("dog", (0, 0, 200))):
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (40, 20), colour).save(tmp_path / "images" / split / label / f"{number}.png")
    Image.new("L", (10, 30), 7).save(tmp_path / "images/train/cat/gray.png")
    return tmp_path / "images"


def test_an_image_folder_is_cut_to_squares_of_three_channels(folder: Path) -> None:
    dataset = Dataset("imagefolder", 16, 0.2, find("imagefolder", str(folder)).fingerprint)
    data = load(dataset, str(folder))
    assert data.test.images.shape == (4, 3, 16, 16)
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.test.images[:, :, 0, 0].tolist() == [[200, 0, 0]] * 2 + [[0, 0, 200]] * 2
    assert torch.equal(load(dataset, str(folder)).train.images, data.train.images)  # now from the packed cache


def test_other_files_than_declared_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="not those this cell was declared with"):
        load(Dataset("imagefolder", 16, 0.2, "0123"), str(folder))


def test_a_broken_image_is_named(folder: Path) -> None:
    (folder / "train/dog/0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"dog/0\.png"):
        load(Dataset("imagefolder", 16, 0.2, find("imagefolder", str(folder)).fingerprint), str(folder))
