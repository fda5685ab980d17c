"""Images that are not plain photographs: the same in memory and in a stream, from the folder to the pixels."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from harness.cell import Dataset
from harness.datasets import find
from harness.errors import UserError
from harness.files import cache_folder
from harness.ssl.data.cache import kept_whole
from harness.ssl.data.sources import load
from harness.ssl.data.split import Data

SIDE = 16
#: The size at which the centre of a streamed image is its pixels without resampling.
STREAMED = round(SIDE * 256 / 224)

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["in memory", "streamed"])


def read(root: Path, stream: bool) -> Data:
    fingerprint = find("imagefolder", str(root)).fingerprint
    return load(Dataset("imagefolder", SIDE, 0.25, fingerprint, stream), str(root))


def write(root: Path, image: Callable[[int, int], Image.Image], ending: str = "png") -> Path:
    """Two classes of twelve training and four test images; ``image`` is given the label and the number."""
    for split, count in (("train", 12), ("test", 4)):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image(label, number).save(root / split / name / f"{number:03}.{ending}")
    return root


def levels(label: int, number: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng([label, number])
    return rng.normal(80 + 90 * label, 20, (STREAMED, STREAMED)).clip(0, 255).astype(np.uint8)


def eight(label: int, number: int) -> Image.Image:
    return Image.fromarray(levels(label, number))


def sixteen(label: int, number: int) -> Image.Image:
    return Image.fromarray(levels(label, number).astype(np.uint16) * 257)


def half_and_half(label: int, number: int) -> Image.Image:
    return (eight if number % 2 else sixteen)(label, number)


def pixels(data: Data) -> torch.Tensor:
    return torch.cat(list(data.test.batches(8)))


@STREAM
@pytest.mark.parametrize("kind", [sixteen, half_and_half])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_have_the_pixels_of_eight(
    tmp_path: Path, stream: bool, kind: Callable[[int, int], Image.Image], ending: str
) -> None:
    deep, plain = (read(write(tmp_path / name, image, ending), stream) for name, image in (("a", kind), ("b", eight)))
    assert torch.equal(pixels(deep), pixels(plain))
    assert torch.equal(deep.mean, plain.mean)
    assert torch.equal(deep.std, plain.std)
    count = 32 if kind is sixteen else 16
    (note,) = find("imagefolder", str(tmp_path / "a")).notes
    assert note == (
        f"{count} grey images of 16 bits, scaled to 8 (divided by 257): the first is train/cat/000.{ending}"
    )


def test_a_folder_that_was_white_in_the_first_version_is_another_data_set(tmp_path: Path) -> None:
    from harness.datasets.class_folders import scan
    from harness.datasets.fingerprint import content_of

    root = write(tmp_path, half_and_half)
    files = scan(root)
    before = content_of(root, files.train.paths + files.test.paths).fingerprint
    assert find("imagefolder", str(root)).fingerprint != before, "finished cells with white images are other cells"


@STREAM
@pytest.mark.parametrize("mode", ["P", "1", "LA", "CMYK"])
def test_a_palette_and_other_modes_have_the_pixels_that_pillow_gives_them(
    tmp_path: Path, stream: bool, mode: str
) -> None:
    ending = "tif" if mode == "CMYK" else "png"
    theirs = read(write(tmp_path / "a", lambda *of: eight(*of).convert(mode), ending), stream)
    plain = read(write(tmp_path / "b", lambda *of: eight(*of).convert(mode).convert("RGB"), ending), stream)
    assert torch.equal(pixels(theirs), pixels(plain))


@STREAM
def test_floats_are_refused_by_name_before_anything_runs(tmp_path: Path, stream: bool) -> None:
    root = write(tmp_path, lambda *of: Image.fromarray(levels(*of).astype(np.float32) / 255), "tif")
    with pytest.raises(UserError, match=r"train/cat/000\.tif: .*floating-point.*\(and 31 more images\)"):
        read(root, stream)


@STREAM
def test_a_constant_channel_is_not_divided_by_its_deviation(
    tmp_path: Path, stream: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_blue(label: int, number: int) -> Image.Image:
        grey = levels(label, number)
        return Image.fromarray(np.stack([grey, grey, np.full_like(grey, 77)], 2))

    data = read(write(tmp_path, without_blue), stream)
    assert data.mean[2] == pytest.approx(77 / 255)
    assert data.std[2] == 1
    assert data.std[0] == data.std[1]
    assert data.std[0] < 1
    assert "channel 2 is the same in all training images" in capsys.readouterr().err


@STREAM
def test_images_of_one_colour_are_refused(tmp_path: Path, stream: bool) -> None:
    root = write(tmp_path, lambda *_: Image.new("RGB", (STREAMED, STREAMED), (255, 255, 255)))
    with pytest.raises(UserError, match="all training images have one and the same colour"):
        read(root, stream)


@STREAM
def test_every_image_that_cannot_be_read_is_named(tmp_path: Path, stream: bool) -> None:
    root = write(tmp_path, eight)
    (root / "train/cat/000.png").write_bytes((root / "train/cat/000.png").read_bytes()[:60])
    Image.new("1", (20_000, 20_000)).save(root / "train/cat/005.png")
    (root / "train/dog/001.png").write_text("<html>404</html>")
    with pytest.raises(UserError, match=r"train/cat/000\.png: cannot read the image: .*") as caught:
        read(root, stream)
    assert "2 more cannot be read: " in caught.value.what
    assert all(name in caught.value.what for name in ("train/cat/005.png", "train/dog/001.png"))
    assert "object at 0x" not in str(caught.value)


@STREAM
def test_the_same_command_goes_on_without_an_image_that_was_moved_away(tmp_path: Path, stream: bool) -> None:
    root = write(tmp_path / "images", eight)
    (root / "train/cat/000.png").write_bytes(b"no image")
    with pytest.raises(UserError) as caught:
        read(root, stream)
    assert os.spawnlp(os.P_WAIT, "bash", "bash", "-c", caught.value.next_command.partition("   (")[0]) == 0
    data = read(root, stream)
    assert len(data.train) + len(data.validation) == 23
    assert find("imagefolder", str(root)).notes == (
        "1 left out, of other endings: .unread 1, train/cat/000.png.unread",
    )


@STREAM
def test_images_below_class_folders_and_odd_names_are_read(tmp_path: Path, stream: bool) -> None:
    root = write(tmp_path, eight)
    plain = read(root, stream)
    (root / "train/cat").rename(root / "train/images")
    (root / "train/cat").mkdir()
    (root / "train/images").rename(root / "train/cat/images")
    os.rename(os.fsencode(root) + b"/test/dog/003.png", os.fsencode(root) + b"/test/dog/caf\xe9.png")
    (root / "train/dog").rename(root / "train/doge\u0301")
    (root / "test/dog").rename(root / "test/dog\u00e9")
    (root / "test/.ipynb_checkpoints").mkdir()
    odd = read(root, stream)
    assert torch.equal(pixels(odd), pixels(plain))
    assert torch.equal(odd.train.labels, plain.train.labels)
    assert torch.equal(odd.test.labels, plain.test.labels)


@STREAM
def test_val_is_read_where_test_is_flat(tmp_path: Path, stream: bool) -> None:
    root = write(tmp_path, eight)
    (root / "test").rename(root / "val")
    (root / "test").mkdir()
    eight(0, 0).save(root / "test/ILSVRC2012_test_00000001.png")
    assert len(read(root, stream).test) == 8


def test_decoding_that_is_measured_names_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    from harness.cell import Views
    from harness.ssl.data.streaming import seconds_per_image

    (tmp_path / "0.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"0\.jpg: cannot read the image: it is no image of a known format"):
        seconds_per_image([tmp_path / "0.jpg"], SIDE, Views())


@STREAM
@pytest.mark.parametrize("damage", ["emptied", "halved", "flipped"])
def test_a_damaged_file_of_the_cache_is_named_with_the_command_that_makes_it_again(
    tmp_path: Path, stream: bool, damage: str
) -> None:
    root = write(tmp_path, eight)
    whole = read(root, stream)
    (kept,) = (cache_folder() / "images").glob("*.npy" if stream else "*.npz")
    raw = bytearray(kept.read_bytes())
    raw[3 if stream else len(raw) // 2] ^= 255
    kept.write_bytes({"emptied": b"", "halved": raw[: len(raw) // 2], "flipped": raw}[damage])
    with pytest.raises(UserError, match="the file in the cache is damaged") as caught:
        read(root, stream)
    assert caught.value.where == str(kept)
    assert os.spawnlp(os.P_WAIT, "bash", "bash", "-c", caught.value.next_command.partition("   (")[0]) == 0
    assert torch.equal(read(root, stream).mean, whole.mean)


@pytest.mark.parametrize("reason", [errno.EMFILE, errno.EACCES, errno.ESTALE])
def test_a_file_of_the_cache_that_cannot_be_read_now_is_not_called_damaged(tmp_path: Path, reason: int) -> None:
    path = tmp_path / "kept.npy"
    with pytest.raises(UserError, match="the file in the cache cannot be read now") as caught, kept_whole(path):
        raise OSError(reason, os.strerror(reason), str(path))
    assert caught.value.where == str(path)
    assert "rm " not in caught.value.next_command
