"""An image folder in one file: whole or not there, and the same bytes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from harness.errors import UserError
from harness.ssl.data import packed_images
from harness.ssl.data.packed_images import open_packed, pack
from tests.support.small_files import labelled

PACK = """
import sys, time
from pathlib import Path
from harness.ssl.data import packed_images as packed
from tests.support.small_files import labelled
check = packed._check
def slow(path):
    time.sleep(float(sys.argv[2]))
    return check(path)
packed._check, packed.BLOCK = slow, 1
train = sorted(Path(sys.argv[1], "train").rglob("*.*"))
packed.pack(Path(sys.argv[1], "images.packed"), *labelled(train[:-1], train[-1:]))
"""


@pytest.fixture
def train(tmp_path: Path) -> list[Path]:
    """Two classes of six, of several formats."""
    paths = []
    for label, colour in (("cat", 50), ("dog", 200)):
        (tmp_path / "train" / label).mkdir(parents=True)
        for number in range(6):
            paths.append(tmp_path / "train" / label / f"{number}.{['jpg', 'png', 'webp'][number % 3]}")
            Image.new("RGB", (20 + number, 10), (colour, number, 0)).save(paths[-1])
    return paths


def test_every_image_keeps_its_bytes_size_and_label(tmp_path: Path, train: list[Path]) -> None:
    pack(tmp_path / "images.packed", *labelled(train[:9], train[9:]))
    kept = open_packed(tmp_path / "images.packed")
    assert kept.train == 9
    assert [kept.read(row) for row in range(12)] == [path.read_bytes() for path in train]
    assert kept.index["label"].tolist() == [0] * 6 + [1] * 6
    assert kept.index["width"].tolist() == [20, 21, 22, 23, 24, 25] * 2
    assert set(kept.index["height"].tolist()) == {10}


@pytest.mark.parametrize("name", ["0.jpg", "1.png"])
@pytest.mark.parametrize("broken", ["no image", "cut short"])
def test_a_broken_image_is_named_and_nothing_is_kept(tmp_path: Path, train: list[Path], name: str, broken: str) -> None:
    image = tmp_path / "train" / "dog" / name
    Image.effect_noise((60, 60), 50).save(image)
    image.write_bytes(b"no image" if broken == "no image" else image.read_bytes()[:1000])
    with pytest.raises(UserError, match=f"dog/{name}"):
        pack(tmp_path / "cache" / "images.packed", *labelled(train, []))
    assert os.listdir(tmp_path / "cache") == ["images.packed.lock"]


def test_a_full_disk_is_said(tmp_path: Path, train: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        pack(tmp_path / "cache" / "images.packed", *labelled(train, []))
    assert caught.value.next_command == "export XDG_CACHE_HOME=FOLDER"
    assert os.listdir(tmp_path / "cache") == ["images.packed.lock"]


@pytest.mark.e2e
def test_a_packing_that_is_killed_leaves_nothing_that_is_taken_for_whole(tmp_path: Path, train: list[Path]) -> None:
    target = tmp_path / "images.packed"
    packing = subprocess.Popen([sys.executable, "-c", PACK, str(tmp_path), "0.2"])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".images.packed.*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    packing.send_signal(signal.SIGKILL)
    packing.wait()
    assert not target.exists()
    pack(target, *labelled(train, []))
    assert not list(tmp_path.glob(".images.packed.*"))
    assert open_packed(target).read(11) == train[11].read_bytes()


@pytest.mark.e2e
def test_processes_that_pack_at_once_write_one_file(tmp_path: Path, train: list[Path]) -> None:
    ranks = [subprocess.Popen([sys.executable, "-c", PACK, str(tmp_path), "0.02"]) for _ in range(2)]
    assert [rank.wait() for rank in ranks] == [0, 0]
    kept = open_packed(tmp_path / "images.packed")
    assert [kept.read(row) for row in range(12)] == [path.read_bytes() for path in train]


def test_a_long_packing_says_how_far_it_is(
    tmp_path: Path, train: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packed_images, "REPORT_SECONDS", -1.0)
    pack(tmp_path / "images.packed", *labelled(train, []))
    assert "5 of 12" in capsys.readouterr().err


@pytest.mark.parametrize("left", [0, 8, 30, -50])
def test_a_file_that_was_cut_is_named(left: int, tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "one").mkdir(parents=True)
        Image.new("RGB", (9, 7)).save(tmp_path / split / "one" / "0.jpg")
    path = tmp_path / "images.packed"
    pack(path, *labelled(*([tmp_path / split / "one" / "0.jpg"] for split in ("train", "val"))))
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    with pytest.raises(UserError, match="damaged, or of another version") as refused:
        open_packed(path)
    assert f"rm {path}" in str(refused.value)
