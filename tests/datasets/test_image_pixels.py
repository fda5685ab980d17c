"""Every image becomes eight bits of RGB, or is refused with its name."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from harness.datasets.image_pixels import (
    MOST_NAMED,
    SEVERAL_FRAMES,
    SIXTEEN_BITS,
    UnreadImages,
    properties,
    rgb,
    square,
)
from harness.errors import UserError

#: All levels of eight bits, and the same in sixteen.
LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)
WIDE = LEVELS.astype(np.uint16) * 257


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(raw: bytes) -> npt.NDArray[np.uint8]:
    """The first channel of what is read; all three are the same."""
    with Image.open(io.BytesIO(raw)) as image:
        pixels = np.asarray(rgb(image))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def png(bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG of 16 by 16 pixels that Pillow cannot write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 16, 16, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_png(colour: int, channels: int) -> bytes:
    values = np.repeat(WIDE[..., None], channels, 2).astype(">u2")
    return png(16, colour, b"".join(b"\0" + row.tobytes() for row in values))


SIXTEEN = {
    "png": saved(Image.fromarray(WIDE), "PNG"),
    "tiff": saved(Image.fromarray(WIDE), "TIFF"),
    "compressed tiff": saved(Image.fromarray(WIDE), "TIFF", compression="tiff_lzw"),
    "big-endian tiff": saved(Image.fromarray(WIDE.astype(">u2")), "TIFF"),
    "pgm": b"P5 16 16 65535\n" + WIDE.astype(">u2").tobytes(),
}


@pytest.mark.parametrize("kind", SIXTEEN)
def test_sixteen_bits_of_grey_are_the_eight_bits_that_they_stand_for(kind: str) -> None:
    assert np.array_equal(grey(SIXTEEN[kind]), LEVELS)
    assert list(properties(io.BytesIO(SIXTEEN[kind]))) == [SIXTEEN_BITS]


def test_a_pgm_is_scaled_by_the_largest_value_that_it_declares() -> None:
    raw = b"P5 16 16 1000\n" + (LEVELS.astype(np.uint32) * 1000 // 255).astype(">u2").tobytes()
    assert np.abs(grey(raw).astype(int) - LEVELS).max() <= 1


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)], ids=["RGB", "LA", "RGBA"])
def test_sixteen_bits_of_colour_are_read_by_pillow(colour: int, channels: int) -> None:
    assert np.array_equal(grey(deep_png(colour, channels)), LEVELS)
    assert list(properties(io.BytesIO(deep_png(colour, channels)))) == []


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_eight_bits_are_what_pillow_makes_of_them(mode: str) -> None:
    image = Image.fromarray(LEVELS).convert(mode)
    assert np.array_equal(np.asarray(rgb(image)), np.asarray(image.convert("RGB")))


def test_a_palette_is_looked_up() -> None:
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).quantize(16)
    with Image.open(io.BytesIO(saved(colours, "GIF"))) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(rgb(image)), np.asarray(colours.convert("RGB")))


def twelve_bits() -> bytes:
    """A TIFF whose grey values have twelve bits, which Pillow opens as if they had sixteen."""
    raw = bytearray(saved(Image.fromarray(WIDE // 16), "TIFF"))
    (directory,) = struct.unpack_from("<I", raw, 4)
    (entries,) = struct.unpack_from("<H", raw, directory)
    for place in range(directory + 2, directory + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", raw, place)[0] == 258:
            struct.pack_into("<H", raw, place + 8, 12)
    return bytes(raw)


def white_is_zero() -> bytes:
    raw = bytearray(saved(Image.fromarray(WIDE), "TIFF"))
    (directory,) = struct.unpack_from("<I", raw, 4)
    (entries,) = struct.unpack_from("<H", raw, directory)
    for place in range(directory + 2, directory + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", raw, place)[0] == 262:
            struct.pack_into("<H", raw, place + 8, 0)
    return bytes(raw)


UNKNOWN_WHITE = {
    "floats": (saved(Image.fromarray(WIDE.astype(np.float32)), "TIFF"), "floating-point numbers"),
    "32 bits": (saved(Image.fromarray(WIDE.astype(np.int32)), "TIFF"), "whole numbers of 32 bits"),
    "12 bits": (twelve_bits(), "16 bits that are not all in use"),
    "white is 0": (white_is_zero(), "16 bits that are not all in use"),
}


@pytest.mark.parametrize("kind", UNKNOWN_WHITE)
def test_pixels_whose_white_is_unknown_are_refused(tmp_path: Path, kind: str) -> None:
    raw, why = UNKNOWN_WHITE[kind]
    (tmp_path / "image.tif").write_bytes(raw)
    with pytest.raises(UserError, match=rf"image\.tif: cannot read the image: it has {why}"):
        square(tmp_path / "image.tif", 8)
    (found,) = properties(io.BytesIO(raw))
    assert why in found


def test_the_first_of_several_frames_is_read_and_that_is_listed() -> None:
    frames = [Image.fromarray(np.full((16, 16, 3), level, np.uint8)) for level in (10, 200)]
    for kind in ("GIF", "TIFF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        raw = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert set(np.unique(grey(raw))) == {10}, kind
        assert list(properties(io.BytesIO(raw))) == [SEVERAL_FRAMES], kind
        assert list(properties(io.BytesIO(saved(frames[0], kind)))) == [], kind


def giant(path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(path, "PNG")


def much_text(path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    about.add_text("about", "a" * 3_000_000, zip=True)
    Image.new("L", (8, 8)).save(path, "PNG", pnginfo=about)


def cut(path: Path) -> None:
    Image.effect_noise((60, 60), 50).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:1000])


def web_page(path: Path) -> None:
    path.write_text("<html>404 Not Found</html>")


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = {
    giant: "400000000 pixels",
    much_text: "Decompressed data too large",
    cut: "truncated",
    web_page: "no image of a known format",
    empty: "no image of a known format",
}


@pytest.mark.tried("hostile archives and files", "an image that is none, or is too large")
@pytest.mark.parametrize("damage", DAMAGES)
def test_an_image_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "an image.png"
    damage(path)  # type: ignore[operator]
    with pytest.raises(UserError, match=r"an image\.png: cannot read the image: ") as caught:
        square(path, 8)
    assert DAMAGES[damage] in caught.value.what  # type: ignore[index]
    assert "object at 0x" not in str(caught.value)
    assert caught.value.next_command.startswith(f"mv '{path}'{{,.unread}} ")


def test_several_unread_images_are_named_at_once() -> None:
    unread = UnreadImages()
    unread.refuse()
    for name in "abc":
        with unread.collected():
            raise UserError("cannot read the image", where=name)
    with pytest.raises(UserError) as caught:
        unread.refuse()
    assert str(caught.value) == "a: cannot read the image; 2 more cannot be read: b, c"


def test_a_folder_of_nothing_but_damage_is_not_read_to_its_end() -> None:
    unread, tried = UnreadImages(), []

    def read_all() -> None:
        for number in range(1000):
            with unread.collected():
                tried.append(number)
                raise UserError("cannot read the image", where=str(number))

    with pytest.raises(UserError, match="at least 9 more"):
        read_all()
    assert len(tried) == MOST_NAMED
