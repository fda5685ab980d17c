"""What is read of a folder of images, and that everything else is listed or refused."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import harness.ssl  # noqa: F401  (makes torchvision importable where torch is built for the CPU)
from harness.datasets import DatasetMissing, find
from harness.datasets.class_folders import IMAGE_SUFFIXES, LITTER, scan
from harness.errors import UserError
from tests.support.small_files import image_folder

APPLE_DOUBLE = bytes([0, 5, 0x16, 7, 0, 2, 0, 0]) + bytes(50)
CAFE = "caf\u00e9"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Cats and dogs: six training images, four test images."""
    return image_folder(tmp_path / "images")


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def counts(root: Path) -> tuple[int, int]:
    files = find("imagefolder", str(root))
    return files.train, files.test


def notes(root: Path) -> str:
    return "\n".join(find("imagefolder", str(root)).notes)


def test_a_clean_folder_needs_no_words_and_keeps_its_fingerprint(tmp_path: Path) -> None:
    write(tmp_path, "train/b cat/1.JPEG", "train/b cat/0.jpg", "train/a.dog/x.png", f"train/{CAFE}/\u00e9.webp")
    write(tmp_path, "train/cafe\u0301s/2.bmp", "test/b cat/0.jpg", "test/a.dog/00.Jpeg")
    found = find("imagefolder", str(tmp_path))
    # Part of every identity: this is what the first version gave the folder.
    assert (found.fingerprint, found.train, found.test, found.notes) == ("30a989fe2f67aa9e", 5, 2, ())


@pytest.mark.parametrize(
    "litter",
    [
        "train/.ipynb_checkpoints/0-checkpoint.png",
        "test/.ipynb_checkpoints/0-checkpoint.png",
        "train/cat/.ipynb_checkpoints/0-checkpoint.png",
        "train/cat/._0.png",
        "train/cat/.DS_Store",
        "test/dog/Thumbs.db",
        "train/dog/desktop.ini",
        "train/__MACOSX/cat/0.png",
        "train/cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
        "train/.DS_Store",
    ],
)
def test_hidden_files_and_those_of_systems_are_no_data_and_are_listed(root: Path, litter: str) -> None:
    clean = find("imagefolder", str(root))
    write(root, litter)
    if litter.endswith("._0.png"):
        (root / litter).write_bytes(APPLE_DOUBLE)
    found = find("imagefolder", str(root))
    assert (found.fingerprint, found.train, found.test) == (clean.fingerprint, 6, 4)
    (note,) = found.notes
    assert note.startswith("1 left out, hidden or written by the system: ")
    assert litter.startswith(note.rpartition(": ")[2])


@pytest.mark.parametrize("ending", sorted(IMAGE_SUFFIXES))
def test_the_endings_of_torchvision_are_read_in_small_and_large_letters(tmp_path: Path, ending: str) -> None:
    from PIL import Image
    from torchvision.datasets.folder import IMG_EXTENSIONS

    assert set(IMG_EXTENSIONS) <= set(IMAGE_SUFFIXES)
    for name in (f"train/cat/0{ending}", f"train/cat/1{ending.upper()}", f"test/cat/0{ending}"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert counts(tmp_path) == (2, 1)
    assert notes(tmp_path) == ""


def test_the_page_lists_the_endings_that_are_read_and_the_litter_that_is_not() -> None:
    page = (Path(__file__).parents[2] / "docs/datasets.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if "torchvision's endings" in line)
    assert tuple(re.findall(r"`(\.\w+)`", row)) == IMAGE_SUFFIXES
    (row,) = (line for line in page.splitlines() if "Thumbs.db" in line)
    named = {name.lower() for name in re.findall(r"`([^`]+)`", row) if not name.startswith(".")}
    assert named <= LITTER


def test_other_endings_are_left_out_and_counted_by_ending(root: Path) -> None:
    write(root, "train/cat/a.heic", "train/cat/b.heic", "train/dog/c.jpg~", "test/dog/README", "test/labels.txt")
    assert counts(root) == (6, 4)
    assert notes(root) == (
        "5 left out, of other endings: .heic 2, .jpg~ 1, no ending 1, .txt 1, "
        "train/cat/a.heic, train/cat/b.heic, train/dog/c.jpg~, ..."
    )


def test_a_class_of_which_nothing_is_read_is_named(root: Path) -> None:
    write(root, "train/bird/0.heic")
    (root / "test/fish").mkdir()
    assert "2 left out, class folders without images: train/bird, test/fish" in notes(root)


def test_images_outside_of_class_folders_are_left_out_and_counted(root: Path) -> None:
    write(root, "train/0.png", "train/1.png", "test/2.png")
    assert counts(root) == (6, 4)
    assert notes(root) == "3 left out, images outside of the class folders: train/0.png, train/1.png, test/2.png"


def test_folders_beside_train_and_test_are_named(root: Path) -> None:
    write(root, "val/cat/0.png", "unlabeled/0.png", "labels.csv", ".git/config")
    assert notes(root) == "only train/ and test/ are read, not unlabeled/, val/"


def test_images_below_class_folders_are_read_as_torchvision_reads_them(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    write(tmp_path, "train/n01/images/b.JPEG", "train/n01/images/a.JPEG", "train/n01/n01_boxes.txt", "train/n01/z.png")
    write(tmp_path, "train/n02/images/c.JPEG", "train/n00/d.png", "test/n02/x/y/e.png", "test/n00/f.png")
    files = scan(tmp_path)
    theirs = ImageFolder(str(tmp_path / "train")).imgs
    assert sorted((str(path), label) for path, label in zip(files.train.paths, files.train.labels, strict=True)) == (
        sorted(theirs)
    )
    assert files.test.labels == [0, 2]
    assert "images in 4 subfolders of class folders are read, too: train/n01/images" in "\n".join(files.notes)
    assert "1 left out, of other endings: .txt 1, train/n01/n01_boxes.txt" in files.notes


def test_a_link_that_leads_back_is_left_out_and_one_to_a_class_is_read(root: Path, tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/0.png")
    (root / "train/bird").symlink_to(tmp_path / "elsewhere")
    for loop in ("train/cat/again", "train/again"):
        (root / loop).symlink_to(root / "train")
    assert counts(root) == (7, 4)
    assert notes(root) == "2 left out, links that lead back to a folder above: train/again, train/cat/again"


def test_links_to_themselves_and_to_classes_that_are_gone_are_listed(root: Path) -> None:
    (root / "train/cat/loop").symlink_to("loop")
    (root / "train/bird").symlink_to("/a/disk/that/is/not/mounted/bird")
    assert counts(root) == (6, 4)
    assert notes(root) == "2 left out, links that lead nowhere: train/bird, train/cat/loop"


def test_a_folder_that_cannot_be_listed_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refused(path: Any) -> Any:
        if str(path).endswith("train/cat"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match="train/cat: the folder cannot be listed: Permission denied") as caught:
        find("imagefolder", str(root))
    assert caught.value.next_command == f"ls -ld {root}/train/cat"


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_held_out_images_may_be_called_otherwise(tmp_path: Path, name: str) -> None:
    assert counts(image_folder(tmp_path, split=name)) == (6, 4)
    assert notes(tmp_path) == ""


@pytest.mark.parametrize(
    ("test_images", "why"),
    [
        (
            ("test/0.png", "test/1.png"),
            "test/ has no class folder with images (images outside of the class folders: 2)",
        ),
        (("test/images/0.png",), "test/ has only classes that train/ does not have: images"),
        (("test/cat/0.heic",), "(of other endings: 1, class folders without images: 1)"),
    ],
)
def test_val_is_read_where_test_has_no_classes_and_that_is_said(
    tmp_path: Path, test_images: tuple[str, ...], why: str
) -> None:
    root = image_folder(tmp_path, split="val")
    write(root, *test_images)
    assert counts(root) == (6, 4)
    (note,) = find("imagefolder", str(root)).notes
    assert note.startswith("val/ is read instead of test/: ")
    assert why in note


def test_a_flat_test_and_no_val_are_refused_with_what_lies_there(root: Path) -> None:
    for label in ("cat", "dog"):
        for image in (root / "test" / label).iterdir():
            image.rename(root / "test" / f"{label}{image.name}")
        (root / "test" / label).rmdir()
    with pytest.raises(DatasetMissing) as caught:
        find("imagefolder", str(root))
    assert "has 6 training images, but no held-out ones: test/ has no class folder" in caught.value.what
    assert "images outside of the class folders: 4" in caught.value.what


def test_tiny_imagenet_as_it_is_unpacked_is_refused_with_the_command_that_sorts_it(tmp_path: Path) -> None:
    write(tmp_path, *(f"train/{name}/images/{name}_0.JPEG" for name in ("n01", "n02")))
    write(tmp_path, *(f"val/images/val_{number}.JPEG" for number in range(3)), "test/images/test_0.JPEG")
    (tmp_path / "val/val_annotations.txt").write_text(
        "".join(f"val_{i}.JPEG\tn0{i % 2 + 1}\t0\t0\t9\t9\n" for i in range(3))
    )
    with pytest.raises(DatasetMissing) as caught:
        find("imagefolder", str(tmp_path))
    assert "val/ has only classes that train/ does not have: images" in caught.value.what
    assert os.system(f"bash -c '{caught.value.next_command}'") == 0
    files = scan(tmp_path)
    assert (Counter(files.train.labels), Counter(files.test.labels)) == ({0: 1, 1: 1}, {0: 2, 1: 1})


def test_a_folder_one_level_too_high_is_refused_with_the_right_one(root: Path) -> None:
    with pytest.raises(DatasetMissing, match="has no training images: there is no train/") as caught:
        find("imagefolder", str(root.parent))
    assert caught.value.next_command == f"dataset.root={root}"
    assert find("imagefolder", caught.value.next_command.removeprefix("dataset.root=")).train == 6


def test_an_archive_is_no_folder_of_images(tmp_path: Path) -> None:
    write(tmp_path, "images.tar")
    with pytest.raises(DatasetMissing, match="no training images"):
        find("imagefolder", str(tmp_path / "images.tar"))


def rename(root: Path, **names: str) -> None:
    for split, name in names.items():
        (root / split / "cat").rename(root / split / name)


@pytest.mark.parametrize(("train", "test"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_a_name_is_the_same_however_its_accents_are_stored(root: Path, train: Any, test: Any) -> None:
    rename(root, train=unicodedata.normalize(train, CAFE), test=unicodedata.normalize(test, CAFE))
    assert counts(root) == (6, 4)
    assert scan(root).test.labels == [0, 0, 1, 1]


def test_a_locale_without_utf8_changes_neither_classes_nor_fingerprint(root: Path) -> None:
    rename(root, train="cafe\u0301", test=CAFE)
    here = find("imagefolder", str(root))
    code = (
        "import sys; from harness.datasets import find; found = find('imagefolder', sys.argv[1])\n"
        "print(sys.getfilesystemencoding(), found.fingerprint, found.train, found.test)"
    )
    locale = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], env=os.environ | locale, capture_output=True, text=True, check=False
    )
    assert done.stdout.split()[1:] == [here.fingerprint, "6", "4"], done.stderr


def test_two_class_folders_of_the_same_name_are_refused(root: Path) -> None:
    write(root, *(f"train/{unicodedata.normalize(form, CAFE)}/0.png" for form in ("NFC", "NFD")))
    with pytest.raises(UserError, match=f"two class folders are called {CAFE}"):
        find("imagefolder", str(root))


@pytest.mark.parametrize("name", ["train/cat/%s.png", "train/%s/0.png", "train/cat/%s.txt"])
def test_names_that_are_no_utf8_are_read_and_listed(root: Path, name: str) -> None:
    path = os.fsencode(root) + b"/" + name.encode() % b"caf\xe9"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"one more")
    found = find("imagefolder", str(root))
    assert found.train == (6 if name.endswith(".txt") else 7)
    assert all(note.encode("utf-8") for note in found.notes)
    if name.endswith(".txt"):
        assert r"train/cat/caf\xe9.txt" in found.notes[0]


def test_a_class_that_is_no_utf8_and_only_in_test_is_named(root: Path) -> None:
    os.makedirs(os.fsencode(root / "test") + b"/caf\xe9")
    (root / "test" / os.fsdecode(b"caf\xe9") / "0.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"caf\\xe9") as caught:
        find("imagefolder", str(root))
    assert str(caught.value).encode("utf-8")


class Calls:
    """How often the folders and files of a data set are asked for, by the kind of call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: Counter[str] = Counter()
        for module, name in ((os, "scandir"), (os, "listdir"), (os, "stat"), (os, "lstat")):
            monkeypatch.setattr(module, name, self._counted(name, getattr(module, name)))

    def _counted(self, name: str, call: Any) -> Any:
        def counted(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            self.of[name] += "images" in str(path)
            return call(path, *args, **kwargs)

        return counted


def test_every_folder_is_listed_once_and_every_file_asked_for_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, *(f"train/cat/{number:03}.png" for number in range(100)))
    calls = Calls(monkeypatch)
    found = find("imagefolder", str(root))
    monkeypatch.undo()
    assert (calls.of["scandir"], calls.of["listdir"]) == (2 + 4 + 1, 0), "train, test, their classes, and the root"
    assert calls.of["stat"] - (found.train + found.test) < 10
    assert calls.of["lstat"] < 20
