"""The pixels of an image file: eight bits of red, green and blue, or a refusal that names the file.

Pillow's conversion to RGB clips whatever has more than eight bits: nearly all of a 16-bit image becomes white. Such
images are scaled here where their range is known, and refused where it is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness.datasets.base import Array
from harness.errors import UserError, quoted

if TYPE_CHECKING:
    from PIL import Image

#: Pillow's modes with eight bits for each channel, or one.
EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
#: Bits for each sample and photometric interpretation (black is zero) of a TIFF whose 16 bits are all in use.
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262

#: Properties of files that are listed.
SIXTEEN_BITS = "grey images of 16 bits, scaled to 8 (divided by 257)"
SEVERAL_FRAMES = "images of several frames or pages, of which the first is read"
REFUSED = "refused: "

#: How files begin whose bits and frames Pillow has to find out; the others' stand in their first bytes.
INTRICATE = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF8", b"P2", b"P5")

#: Images that are named when they cannot be read, before the reading stops.
MOST_NAMED = 10


def check_bits(image: Image.Image) -> None:
    """Raise a ValueError if the image has more than eight bits and nothing says what stands for white."""
    if image.mode not in EIGHT_BITS and not _sixteen_bits(image):
        kinds = {"F": "floating-point numbers", "I": "whole numbers of 32 bits, or with a sign"}
        kind = kinds.get(image.mode, "16 bits that are not all in use, or another order of colours")
        raise ValueError(
            f"it has {kind}, and nothing says which value is white; allowed are 8 bits, or 16 bits of grey"
        )


def rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB; raises what ``check_bits`` raises."""
    import numpy as np
    from PIL import Image

    check_bits(image)
    if image.mode in EIGHT_BITS:
        return image.convert("RGB")
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def properties(file: IO[bytes]) -> Iterator[str]:
    """Yield what is peculiar about an image, from its first bytes if they say it; nothing for most images."""
    head = file.read(64)
    if head.startswith(b"\x89PNG"):
        if head[24:26] == bytes([16, 0]):  # bits, and the colour type: grey
            yield SIXTEEN_BITS
        if head[37:41] == b"acTL":
            yield SEVERAL_FRAMES
    elif head.startswith(b"RIFF") and head[12:16] == b"VP8X" and head[20] & 2:
        yield SEVERAL_FRAMES
    elif head.startswith(INTRICATE):
        yield from _properties_by_pillow(file)


def square(path: Path, size: int) -> Array:
    """Return RGB pixels (3, size, size), the shorter side scaled to ``size`` and the centre cut out.

    Raises:
        UserError: the image cannot be read.
    """
    import numpy as np
    from PIL import Image, ImageOps

    with naming(path), Image.open(path) as image:
        pixels = ImageOps.fit(rgb(image), (size, size), Image.Resampling.BICUBIC)
    return np.asarray(pixels).transpose(2, 0, 1)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever is raised while an image is read into a UserError that names its file.

    Each format's decoder has errors of its own, and Pillow has some for images that look like an attack.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001
        raise unreadable(path, _reason(error)) from None


def unreadable(path: Path, why: str) -> UserError:
    """Return the error for an image that is refused."""
    return UserError(
        f"cannot read the image: {why}",
        where=str(path),
        next_command=f"mv {quoted(path)}{{,.unread}}   (leaves it out; or replace it)",
    )


class UnreadImages:
    """The errors of images that could not be read, so that one run names them all, or at least ten."""

    def __init__(self) -> None:
        self._errors: list[UserError] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep a UserError that is raised within; the tenth is raised."""
        try:
            yield
        except UserError as error:
            self._errors.append(error)
            if len(self._errors) == MOST_NAMED:
                self.refuse()

    def refuse(self) -> None:
        """Raise the first error, with the other images in it; nothing happens if there is none."""
        if not self._errors:
            return
        first, *others = self._errors
        least = "at least " if len(self._errors) == MOST_NAMED else ""
        more = f"; {least}{len(others)} more cannot be read: {', '.join(error.where for error in others)}"
        raise UserError(first.what + more * bool(others), where=first.where, next_command=first.next_command)


def _sixteen_bits(image: Image.Image) -> bool:
    """Return whether these are grey values from 0 to 65,535."""
    if image.format == "PPM":  # Pillow scales them to that range
        return image.mode == "I"
    tags = getattr(image, "tag_v2", {TIFF_BITS: (16,), TIFF_PHOTOMETRIC: 1})
    return image.mode.startswith("I;16") and (tags.get(TIFF_BITS), tags.get(TIFF_PHOTOMETRIC)) == ((16,), 1)


def _properties_by_pillow(file: IO[bytes]) -> Iterator[str]:
    from PIL import Image

    file.seek(0)
    try:
        with Image.open(file) as image:
            check_bits(image)
            if image.mode not in EIGHT_BITS:
                yield SIXTEEN_BITS
            if getattr(image, "is_animated", False):
                yield SEVERAL_FRAMES
    except Exception as error:  # noqa: BLE001
        yield REFUSED + _reason(error)


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):  # whose text names the object that was read from
        return "it is no image of a known format, or it is damaged"
    return str(error) or type(error).__name__
