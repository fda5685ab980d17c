"""The fingerprint follows the bytes of the files, whatever their sizes and times are."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from harness.datasets import find, fingerprint
from harness.datasets.fingerprint import content_of
from harness.errors import UserError
from harness.files import cache_folder
from tests.support.small_files import image_folder

OLD = 1_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were opened to be hashed."""
    opened: list[Path] = []
    by_path = fingerprint._opened
    monkeypatch.setattr(fingerprint, "_opened", lambda path: opened.append(path) or by_path(path))
    return opened


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def test_other_pixels_of_the_same_size_and_time_are_another_data_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "SAME_TIME", -1.0)  # remembered at once
    before = content_of(folder, files(folder))
    times = (folder / "a.png").stat()
    (folder / "a.png").write_bytes(b"A.png")
    os.utime(folder / "a.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert content_of(folder, files(folder)).fingerprint != before.fingerprint


def test_another_file_of_the_same_size_and_time_in_its_place_is_another_data_set(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "SAME_TIME", -1.0)
    for path in files(folder):
        os.utime(path, (OLD, OLD))
    before = content_of(folder, files(folder))
    other = tmp_path / "other"
    other.write_bytes(b"A.png")
    os.utime(other, (OLD, OLD))
    shutil.move(other, folder / "a.png")
    assert content_of(folder, files(folder)).fingerprint != before.fingerprint


def test_what_changed_a_moment_ago_is_not_remembered(
    folder: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fingerprint.SAME_TIME >= 2.0, "the step of FAT's clock"
    monkeypatch.setattr(fingerprint, "SAME_TIME", 1.0)
    for _ in range(2):
        content_of(folder, files(folder))
    assert len(reads) == 4
    time.sleep(fingerprint.SAME_TIME + 0.1)
    for _ in range(3):
        content_of(folder, files(folder))
    assert len(reads) == 6, "read once more, and then remembered"


def test_what_is_peculiar_is_remembered_with_the_fingerprint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "SAME_TIME", -1.0)
    first = content_of(folder, files(folder), lambda file: [file.read(1).decode()])
    again = content_of(folder, files(folder), lambda file: pytest.fail("it is remembered"))
    assert again == first
    assert {what: (which.count, Path(which.first).name) for what, which in first.peculiar.items()} == {
        "a": (1, "a.png"),
        "b": (1, "b.png"),
    }


@pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"fingerprint": 1}', '{"fingerprint": "0", "peculiar": [1]}'])
def test_a_damaged_memory_of_it_is_read_anew(folder: Path, monkeypatch: pytest.MonkeyPatch, damaged: str) -> None:
    monkeypatch.setattr(fingerprint, "SAME_TIME", -1.0)
    first = content_of(folder, files(folder))
    (remembered,) = (cache_folder() / "fingerprints").iterdir()
    remembered.write_text(damaged)
    assert content_of(folder, files(folder)) == first


def test_a_pipe_or_a_folder_that_is_called_like_an_image_is_named(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "images")
    os.mkfifo(root / "train/cat/pipe.png")  # reading it would wait for ever
    with pytest.raises(UserError, match=r"cat/pipe\.png: the file cannot be read: it is a folder, a pipe"):
        find("imagefolder", str(root))
    (root / "train/cat/pipe.png").unlink()
    (root / "train/cat/folder.png").mkdir()
    with pytest.raises(UserError, match=r"cat/folder\.png"):
        find("imagefolder", str(root))


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "images")
    (root / "train/cat/link.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"cat/link\.png: the file cannot be read: No such file") as caught:
        find("imagefolder", str(root))
    assert "ls -lL" in caught.value.next_command


def test_a_compressed_file_that_was_cut_is_named(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(os.urandom(5000))[:2000])
    with pytest.raises(UserError, match=r"images\.gz: the file cannot be read: Compressed file ended"):
        content_of(tmp_path, [path])
