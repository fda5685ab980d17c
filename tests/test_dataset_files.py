"""Fingerprints are of content, wherever and however the files lie."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from PIL import Image

from harness import dataset_files
from harness.dataset_files import DatasetMissing, find
from harness.errors import UserError


def image_folder(root: Path, colour: int = 0, split: str = "test") -> Path:
    for part, count in (("train", 3), (split, 2)):
        for label in ("cat", "dog"):
            (root / part / label).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), (colour, number, 0)).save(root / part / label / f"{number}.png")
    return root


def test_the_same_images_elsewhere_have_the_same_fingerprint(tmp_path: Path) -> None:
    here, there = (find("imagefolder", str(image_folder(tmp_path / name))) for name in "ab")
    assert here.fingerprint == there.fingerprint
    assert (here.train, here.test, here.channels) == (6, 4, 3)


def test_one_changed_pixel_is_another_fingerprint(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "a")
    before = find("imagefolder", str(root)).fingerprint
    Image.new("RGB", (8, 8), (1, 0, 0)).save(root / "train/cat/0.png")
    assert find("imagefolder", str(root)).fingerprint != before


def test_val_serves_where_there_is_no_test(tmp_path: Path) -> None:
    assert find("imagefolder", str(image_folder(tmp_path / "a", split="val"))).test == 4


def test_fashion_mnist_is_the_same_compressed_and_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, packed = tmp_path / "FashionMNIST" / "raw", tmp_path / "debian"
    plain.mkdir(parents=True)
    packed.mkdir()
    for name in dataset_files.FASHION_MNIST_FILES:
        (plain / name).write_bytes(name.encode())
        (packed / f"{name}.gz").write_bytes(gzip.compress(name.encode()))
    monkeypatch.setattr(dataset_files, "DEBIAN_FASHION_MNIST", packed)
    assert find("fashion_mnist", str(tmp_path)).fingerprint == find("fashion_mnist", str(tmp_path / "none")).fingerprint


@pytest.mark.parametrize(("name", "root"), [("cifar10", "nowhere"), ("imagefolder", "nowhere"), ("imagefolder", None)])
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
