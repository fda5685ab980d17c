"""Fingerprints are of content, wherever and however the files lie."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from harness.cell import Dataset
from harness.datasets import DATASETS, DatasetMissing, find
from harness.datasets.fashion_mnist import FASHION_MNIST
from harness.datasets.idx import IDX_FILES
from harness.datasets.image_folder import bytes_to_cache, cached_images
from harness.datasets.stl10 import STL10, STL10_FILES
from harness.errors import UserError
from harness.ssl.data.sources import load
from harness.sweep.run.reevaluate import OtherDataset
from tests.support.small_files import image_folder


def test_the_same_images_elsewhere_have_the_same_fingerprint(tmp_path: Path) -> None:
    here, there = (find("imagefolder", str(image_folder(tmp_path / name))) for name in "ab")
    assert here.fingerprint == there.fingerprint
    assert (here.train, here.labelled, here.test, here.channels) == (6, 6, 4, 3)


def test_one_changed_pixel_is_another_fingerprint(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "a")
    before = find("imagefolder", str(root)).fingerprint
    Image.new("RGB", (8, 8), (1, 0, 0)).save(root / "train/cat/0.png")
    assert find("imagefolder", str(root)).fingerprint != before


def test_a_folder_takes_room_in_the_cache_until_it_is_there(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "a")
    files = find("imagefolder", str(root))
    decoded = Dataset("imagefolder", 8, 0.1, files.fingerprint)
    streamed, smaller = replace(decoded, stream=True), replace(decoded, stream=True, image_size=4)
    assert bytes_to_cache([Dataset("digits", 8), decoded], files) == 10 * 3 * 8 * 8
    of_files = sum(path.stat().st_size for path in root.rglob("*.png"))
    assert bytes_to_cache([streamed, smaller], files) == of_files, "packed once for all sizes"
    for dataset in (decoded, streamed):
        load(dataset, str(root))
    assert bytes_to_cache([decoded, streamed, smaller], files) == 0
    assert cached_images(streamed).stat().st_size == pytest.approx(of_files, abs=1000)


def test_val_serves_where_there_is_no_test(tmp_path: Path) -> None:
    assert find("imagefolder", str(image_folder(tmp_path / "a", split="val"))).test == 4


def test_fashion_mnist_is_the_same_compressed_and_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, packed = tmp_path / "FashionMNIST" / "raw", tmp_path / "debian"
    plain.mkdir(parents=True)
    packed.mkdir()
    for name in IDX_FILES:
        (plain / name).write_bytes(name.encode())
        (packed / f"{name}.gz").write_bytes(gzip.compress(name.encode()))
    monkeypatch.setitem(DATASETS, "fashion_mnist", replace(FASHION_MNIST, debian=packed))
    assert find("fashion_mnist", str(tmp_path)).fingerprint == find("fashion_mnist", str(tmp_path / "none")).fingerprint
    # Part of every identity, so it must never change.
    assert find("fashion_mnist", str(tmp_path)).fingerprint == "e783e9ac4f8e68a3"


def test_cifar100s_fingerprint_is_of_its_images_and_labels(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test", "meta"):
        (folder / name).write_bytes(name.encode())
    before = find("cifar100", str(tmp_path))
    assert (before.train, before.labelled, before.test, before.channels) == (50_000, 50_000, 10_000, 3)
    (folder / "meta").write_bytes(b"other names of the classes")
    assert find("cifar100", str(tmp_path)).fingerprint == before.fingerprint
    (folder / "test").write_bytes(b"other images")
    assert find("cifar100", str(tmp_path)).fingerprint != before.fingerprint


@pytest.fixture
def stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of an STL-10 of three labelled images, two without labels, and one for the test."""
    monkeypatch.setitem(DATASETS, "stl10", replace(STL10, train=5, unlabelled=2, test=1))
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    image = 3 * 96 * 96
    for name, size in zip(STL10_FILES, (3 * image, 3, 2 * image, image, 1), strict=True):
        (folder / name).write_bytes(bytes(size))
    return tmp_path


def test_stl10_has_images_without_labels(stl10: Path) -> None:
    found = find("stl10", str(stl10))
    assert (found.train, found.labelled, found.test, found.channels) == (5, 3, 1, 3)


@pytest.mark.parametrize("name", STL10_FILES)
def test_a_stl10_file_of_another_size_is_named(stl10: Path, name: str) -> None:
    path = stl10 / "stl10_binary" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"{name}: the file has [\d,]+ bytes instead of [\d,]+") as caught:
        find("stl10", str(stl10))
    assert caught.value.next_command == f"python -P -m harness.ssl.data.download stl10 {stl10}"


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("cifar10", "nowhere"),
        ("cifar100", "nowhere"),
        ("stl10", "nowhere"),
        ("imagefolder", "nowhere"),
        ("imagefolder", None),
    ],
)
def test_missing_files_are_named_with_what_would_do(name: str, root: str | None) -> None:
    with pytest.raises(DatasetMissing) as caught:
        find(name, root)
    assert "dataset.root" in str(caught.value)
    assert caught.value.allowed


def test_a_test_class_that_training_lacks_is_refused(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "a")
    (root / "test/cat").rename(root / "test/cow")
    with pytest.raises(UserError, match="cow"):
        find("imagefolder", str(root))


def test_an_unknown_data_set_is_named_with_those_that_there_are() -> None:
    for find_it in (lambda: find("no_such_set", None), lambda: OtherDataset.find("no_such_set", None)):
        with pytest.raises(UserError, match="unknown dataset 'no_such_set'") as caught:
            find_it()
        assert caught.value.allowed == ", ".join(DATASETS)
