"""An image folder in one file: the images' own bytes one after another, and an index.

A network disk serves one large file faster than a million small ones. Nothing is encoded anew, so that no number
depends on the file.
"""

from __future__ import annotations

import io
import os
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch

from harness.datasets.class_folders import LabelledFiles
from harness.datasets.image_pixels import UnreadImages, check_bits, naming
from harness.errors import UserError
from harness.ssl.data.cache import write_once

#: The index entry of an image: the place of its bytes, its size in pixels, and its label.
ENTRY = np.dtype([("offset", "<i8"), ("length", "<i4"), ("height", "<i4"), ("width", "<i4"), ("label", "<i4")])
#: The end of the file; a file that was cut has another one.
END = np.dtype([("mark", "S8"), ("images", "<i8"), ("train", "<i8")])
MARK = b"packed-1"

BLOCK = 256  # images read ahead of those that are written
REPORT_SECONDS = 30.0


@dataclass(frozen=True)
class Packed:
    """An open file of packed images.

    ``file``: its descriptor; ``index``: (n,) of ``ENTRY``; ``train``: how many are training images, which come first.
    """

    file: int
    index: npt.NDArray[Any]
    train: int

    def read(self, row: int) -> bytes:
        """Return an image's bytes. Unlike a mapped file this lets other threads run while it waits for the disk."""
        entry = self.index[row]
        return os.pread(self.file, int(entry["length"]), int(entry["offset"]))


def open_packed(path: Path) -> Packed:
    """Open packed images; the file stays open for as long as the result is in use.

    Raises:
        UserError: the file is damaged, or of another version.
    """
    file = os.open(path, os.O_RDONLY)
    end = os.fstat(file).st_size - END.itemsize
    (end_mark,) = np.frombuffer(os.pread(file, END.itemsize, end), END) if end > 0 else np.zeros(1, END)
    size = int(end_mark["images"]) * ENTRY.itemsize
    if end_mark["mark"] != MARK or size > end:
        os.close(file)
        what = "the packed images are damaged, or of another version"
        raise UserError(what, where=str(path), next_command=f"rm {path}   (the images are packed again)")
    packed = Packed(file, np.frombuffer(os.pread(file, size, end - size), ENTRY), int(end_mark["train"]))
    weakref.finalize(packed, os.close, file)
    return packed


def pack(path: Path, train: LabelledFiles, test: LabelledFiles) -> None:
    """Write the images and their labels into ``path``.

    Raises:
        UserError: images cannot be read, or the file cannot be written.
    """
    write_once(path, lambda file: _write(file, train, test))


def _write(file: IO[bytes], train: LabelledFiles, test: LabelledFiles) -> None:
    paths, labels = train.paths + test.paths, train.labels + test.labels
    index, unread = np.zeros(len(paths), ENTRY), UnreadImages()
    for row, checked in enumerate(_reported(_checked(paths), len(paths))):
        with unread.collected():
            raw, (width, height) = checked.result()
            index[row] = (file.tell(), len(raw), height, width, labels[row])
            file.write(raw)
    unread.refuse()
    file.write(index.tobytes())
    file.write(np.array([(MARK, len(paths), len(train.paths))], END).tobytes())


Checked = Future[tuple[bytes, tuple[int, int]]]


def _checked(paths: Sequence[Path]) -> Iterator[Checked]:
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for begin in range(0, len(paths), BLOCK):
            yield from [pool.submit(_check, path) for path in paths[begin : begin + BLOCK]]


def _check(path: Path) -> tuple[bytes, tuple[int, int]]:
    """Return the bytes of an image that can be decoded to its end, and its (width, height)."""
    from PIL import Image

    with naming(path):
        raw = path.read_bytes()
        with Image.open(io.BytesIO(raw)) as image:
            size = image.size
            image.draft(None, (1, 1))  # all data are read, but decoded at the smallest scale
            image.load()
            check_bits(image)
    return raw, size


def _reported(images: Iterator[Checked], count: int) -> Iterator[Checked]:
    """Yield the images as they come; a line on standard error reports the progress every 30 seconds."""
    reported = time.monotonic()
    for done, image in enumerate(images, 1):
        yield image
        if time.monotonic() - reported > REPORT_SECONDS:
            print(f"packing images into one file, once: {done:,} of {count:,}", file=sys.stderr, flush=True)
            reported = time.monotonic()
