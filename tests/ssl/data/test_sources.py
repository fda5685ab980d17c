"""Data sets as tensors, each read from files in its own format."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from harness.cell import Dataset, Views
from harness.datasets import Array, find
from harness.datasets.cifar import CIFAR10
from harness.errors import UserError
from harness.files import cache_folder
from harness.ssl.data import augment, augmentation_parameters
from harness.ssl.data.sources import load
from harness.ssl.data.split import Data, Split
from tests.support.small_files import (
    resize,
    write_cifar10,
    write_cifar100,
    write_fashion_mnist,
    write_image_folder,
    write_stl10,
)


def read(name: str, size: int, validation: float, root: Path | None) -> Data:
    place = str(root) if root else None
    return load(Dataset(name, size, validation, find(name, place).fingerprint), place)


@pytest.fixture
def small_fashion_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    resize(monkeypatch, "fashion_mnist", train=20, test=5)


def test_digits_are_scikit_learns() -> None:
    data = read("digits", 8, 0.1, None)
    assert (len(data.train), len(data.validation), len(data.test)) == (1293, 144, 360)
    ours = torch.cat([data.train.images, data.validation.images, data.test.images]).flatten(1)
    theirs = torch.from_numpy(np.rint(load_digits().data * 255 / 16).astype(np.uint8))
    assert sorted(ours.tolist()) == sorted(theirs.tolist())


def test_the_splits_share_no_image_and_do_not_depend_on_anything() -> None:
    first, again = read("digits", 8, 0.1, None), read("digits", 8, 0.1, None)
    assert torch.equal(first.validation.images, again.validation.images)
    rows = {split: {tuple(row) for row in getattr(first, split).images.flatten(1).tolist()} for split in
            ("train", "validation", "test")}  # fmt: skip
    assert not rows["train"] & rows["validation"]
    assert not rows["train"] & rows["test"]


def checksum(split: Split) -> str:
    digest = hashlib.sha256(split.images.numpy().tobytes())
    digest.update(split.labels.numpy().tobytes())
    return digest.hexdigest()[:12]


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("digits", 8, ["90e5867ebc73", "1791687512d9", "689ddc76c7a5"]),
        ("fashion_mnist", 28, ["59145d6a8dd5", "3b81bfbc0417", "2be6c8445589"]),
        ("cifar10", 32, ["b85c623878f2", "201c16802abd", "b2f417247de2"]),
        ("imagefolder", 16, ["bc2e776535fd", "ba3d844ac273", "14083b1fe49e"]),
    ],
)
def test_splits_are_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int, expected: list[str]
) -> None:
    # Images, labels and their order are behind every record.
    resize(monkeypatch, "cifar10", train=60, test=12)
    resize(monkeypatch, "fashion_mnist", train=20, test=5)
    write_fashion_mnist(tmp_path)
    write_cifar10(tmp_path)
    write_image_folder(tmp_path)
    data = read(name, size, 0.25, None if name == "digits" else tmp_path)
    assert [checksum(split) for split in (data.train, data.validation, data.test)] == expected


@pytest.mark.usefixtures("small_fashion_mnist")
@pytest.mark.parametrize("compressed", [False, True])
def test_fashion_mnist_is_read_from_idx_files(tmp_path: Path, compressed: bool) -> None:
    arrays = write_fashion_mnist(tmp_path, compressed=compressed)
    data = read("fashion_mnist", 28, 0.5, tmp_path)
    assert data.channels == 1
    assert torch.equal(data.test.images[:, 0], torch.from_numpy(arrays[2]))
    assert sorted(torch.cat([data.train.labels, data.validation.labels]).tolist()) == sorted(arrays[1].tolist())


@pytest.mark.usefixtures("small_fashion_mnist")
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_an_idx_file_that_was_cut_is_named(tmp_path: Path, compressed: bool, name: str) -> None:
    write_fashion_mnist(tmp_path, compressed=compressed)
    path = tmp_path / "FashionMNIST" / "raw" / (f"{name}.gz" if compressed else name)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=rf"{name}.*: the file cannot be read: ") as caught:
        read("fashion_mnist", 28, 0.5, tmp_path)
    again = "ls -lL" if compressed else f"rm -r {path.parent} && python -P -m harness.ssl.data.download fashion_mnist"
    assert caught.value.next_command.startswith(again)


@pytest.mark.usefixtures("small_fashion_mnist")
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("train-labels-idx1-ubyte", "the file holds 19 labels for 20 images"),
        ("t10k-labels-idx1-ubyte", "the file holds 4 labels for 5 images"),
    ],
)
def test_idx_files_of_images_and_labels_that_differ_in_number_are_refused(tmp_path: Path, name: str, what: str) -> None:
    write_fashion_mnist(tmp_path)
    write_fashion_mnist(tmp_path / "other", train=19, test=4)
    file = tmp_path / "FashionMNIST/raw" / name
    (tmp_path / "other/FashionMNIST/raw" / name).replace(file)
    with pytest.raises(UserError, match=what) as caught:
        read("fashion_mnist", 28, 0.5, tmp_path)
    assert caught.value.where == str(file)


@pytest.mark.usefixtures("small_fashion_mnist")
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "begin as an IDX file of bytes does, but with nothing"),
        (b"<html>", "but with 3c 68 74 6d"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "but with 00 00 0d 01"),
        (b"\0\0\x08\x01\0\0", "but with 00 00 08 01"),
        (b"\0\0\x08\x01\0\0\0\x14" + 19 * b"\0", "its header says 20 bytes, 20, but 19 follow"),
        (b"\0\0\x08\x01\0\0\0\x14" + 21 * b"\0", "its header says 20 bytes, 20, but 21 follow"),
        (b"\0\0\x08\x03\xff\xff\xff\xff\0\0\0\x1c\0\0\0\x1c", "4,294,967,295 x 28 x 28 bytes, .* but 0 follow"),
    ],
    ids=["empty", "a web page", "floating point", "a cut header", "cut", "too long", "a damaged header"],
)
def test_an_idx_file_that_is_not_what_it_says_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    write_fashion_mnist(tmp_path)
    (tmp_path / "FashionMNIST/raw/train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(UserError, match=rf"train-labels-idx1-ubyte: the file cannot be read: .*{what}"):
        read("fashion_mnist", 28, 0.5, tmp_path)


def test_cifar10_is_read_from_torchvisions_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resize(monkeypatch, "cifar10", train=20, test=4)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in CIFAR10.batches:
        # As in the original: three planes of 1,024 bytes an image, red first.
        rows = np.tile(np.repeat(np.array([10, 20, 30], dtype=np.uint8), 1024), (4, 1))
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": [0, 1, 2, 3]}))
    data = read("cifar10", 32, 0.25, tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (15, 5, 4)
    assert data.train.images[0].flatten(1)[:, 0].tolist() == [10, 20, 30]
    assert data.mean.tolist() == pytest.approx([10 / 255, 20 / 255, 30 / 255])


def rows_in(split: Split, theirs: Any) -> list[int]:
    """Where the split's images stand in torchvision's data set; their pixels and labels are equal."""
    places = {np.asarray(image).tobytes(): row for row, (image, _) in enumerate(theirs)}
    rows = [places[image.permute(1, 2, 0).numpy().tobytes()] for image in split.images]
    assert split.labels.tolist() == [theirs[row][1] for row in rows]
    return rows


def test_cifar100_is_torchvisions_with_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR100, cifar

    write_cifar100(tmp_path)
    resize(monkeypatch, "cifar100", train=40, test=10)
    monkeypatch.setattr(cifar, "check_integrity", lambda path, md5=None: True)
    data = read("cifar100", 32, 0.25, tmp_path)
    train, test = (CIFAR100(str(tmp_path), train=split) for split in (True, False))
    assert rows_in(data.test, test) == list(range(10))
    kept, held_out = rows_in(data.train, train), rows_in(data.validation, train)
    assert (len(kept), len(held_out)) == (30, 10)
    assert sorted(kept + held_out) == list(range(40))


def test_stl10_is_torchvisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import STL10

    write_stl10(tmp_path)
    resize(monkeypatch, "stl10", train=50, test=8, labelled=20)
    monkeypatch.setattr(STL10, "_check_integrity", lambda self: True)
    data = read("stl10", 96, 0.25, tmp_path)
    train, test = (STL10(str(tmp_path), split=split) for split in ("train+unlabeled", "test"))
    assert rows_in(data.test, test) == list(range(8))
    kept, held_out = rows_in(data.train, train), rows_in(data.validation, train)
    assert (len(kept), len(held_out)) == (45, 5)
    assert sorted(kept + held_out) == list(range(50))
    assert max(held_out) < 20


def test_images_without_a_label_train_the_encoder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stl10(tmp_path)
    resize(monkeypatch, "stl10", train=50, test=8, labelled=20)
    data = read("stl10", 96, 0.25, tmp_path)
    assert (data.train.labels == -1).sum() == 30
    labelled = data.train.labels >= 0
    assert torch.equal(data.bank.images, data.train.images[labelled])
    assert torch.equal(data.bank.labels, data.train.labels[labelled])
    assert min(split.labels.min() for split in (data.bank, data.validation, data.test)) >= 0


def test_rows_are_read_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.ssl.data import sources

    write_stl10(tmp_path)
    resize(monkeypatch, "stl10", train=50, test=8, labelled=20)
    whole = read("stl10", 96, 0.25, tmp_path)
    monkeypatch.setattr(sources, "BLOCK", 7)
    assert torch.equal(read("stl10", 96, 0.25, tmp_path).train.images, whole.train.images)


def test_the_bank_takes_no_memory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stl10(tmp_path)
    resize(monkeypatch, "stl10", train=50, test=8, labelled=20)
    digits, stl10 = read("digits", 8, 0.1, None), read("stl10", 96, 0.25, tmp_path)
    for data in (digits, digits.to(torch.device("cpu"))):
        assert data.bank is data.train
    for data in (stl10, stl10.to(torch.device("cpu"))):
        assert len(data.bank) == 15
        assert data.bank.images.data_ptr() == data.train.images.data_ptr()


@pytest.mark.parametrize("broken", ["cut short", "one image less", "no labels"])
def test_a_cifar_file_that_is_not_whole_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    folder = write_cifar100(tmp_path)
    resize(monkeypatch, "cifar100", train=41 if broken == "one image less" else 40, test=10)
    content = (folder / "train").read_bytes()
    if broken == "cut short":
        (folder / "train").write_bytes(content[: len(content) // 2])
    elif broken == "no labels":
        (folder / "train").write_bytes(pickle.dumps({"data": np.zeros((40, 3072), dtype=np.uint8)}))
    with pytest.raises(UserError, match=r"cifar-100-python/train: the file") as caught:
        read("cifar100", 32, 0.25, tmp_path)
    assert caught.value.next_command == f"python -P -m harness.ssl.data.download cifar100 {tmp_path}"


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
    data = read("imagefolder", 16, 0.2, folder)
    assert data.test.images.shape == (4, 3, 16, 16)
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.test.images[:, :, 0, 0].tolist() == [[200, 0, 0]] * 2 + [[0, 0, 200]] * 2
    # Now from the packed cache.
    assert torch.equal(read("imagefolder", 16, 0.2, folder).train.images, data.train.images)


def test_other_files_than_declared_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="not those this cell was declared with"):
        load(Dataset("imagefolder", 16, 0.2, "0123"), str(folder))


def test_a_broken_image_is_named(folder: Path) -> None:
    (folder / "train/dog/0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"dog/0\.png"):
        read("imagefolder", 16, 0.2, folder)


def test_a_full_disk_keeps_no_half_of_the_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: IO[bytes], **arrays: Array) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError, match="cannot be kept in the cache: No space left on device"):
        read("imagefolder", 16, 0.2, folder)
    (left,) = (cache_folder() / "images").iterdir()
    assert left.name.endswith(".npz.lock")


@pytest.mark.e2e
def test_processes_that_start_at_once_decode_the_images_once(folder: Path) -> None:
    declared = (str(folder), find("imagefolder", str(folder)).fingerprint)
    code = (
        "import sys, time\n"
        "from harness.cell import Dataset\n"
        "from harness.datasets import image_folder\n"
        "from harness.ssl.data import sources\n"
        "decode = image_folder._decode\n"
        "def slow(*of):\n    time.sleep(.5)\n    print('decoded', flush=True)\n    return decode(*of)\n"
        "image_folder._decode = slow\n"
        "sources.load(Dataset('imagefolder', 16, .2, sys.argv[2]), sys.argv[1])\n"
    )
    command = [sys.executable, "-c", code, *declared]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert sorted(said) == ["", "decoded\ndecoded\n"], "training and test images, by the first"


def test_shares_are_the_augmented_views_of_their_rows() -> None:
    train, settings = read("digits", 8, 0.1, None).train, Views()
    draws = augmentation_parameters.draw(0, 0, len(train), settings)
    written = augmentation_parameters.resolve(draws, settings, 1, 8, 8)
    owns = torch.randperm(len(train))[:12].split(6)
    for own, share in zip(owns, train.iter_views(owns, draws, settings), strict=True):
        wanted = augment.augment(train.images[own], written[:, own], settings)
        assert torch.equal(share(slice(0, 6)), wanted)
        assert torch.equal(share(slice(2, 4)), share(slice(0, 6))[:, 2:4])
