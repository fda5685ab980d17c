"""Images that do not fit memory: threads decode them ahead of the training loop, and their crops move to the device.

Both views come from one decoding. A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where no crop becomes smaller than
the view, which is faster (fewer pixels leave its inverse DCT). Crops are uint8; colours and blur are the device's work.

Threads do what processes would, because Pillow decodes and resamples without the interpreter's lock. They share memory,
need no fork beside CUDA, and die with the process.
"""

from __future__ import annotations

import io
import itertools
import math
import statistics
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.cell import Views
from harness.datasets.image_pixels import naming, rgb
from harness.ssl.data import augment, augmentation_parameters
from harness.ssl.data.augment import LocalViews
from harness.ssl.data.packed_images import Packed

#: Images that are decoded ahead of a GPU's step, unless the step itself has more.
AHEAD = 512

#: Left, top, right, bottom in pixels.
Box = Sequence[float]


class Crops(NamedTuple):
    """The crops of n images: ``rows`` of the packed file (n,); v ``boxes`` of each (n, v, 4); ``mirrored`` (n, v).

    ``cut``: whether they are cut out before they are resized, so that nothing beyond their edges shows.
    """

    rows: npt.NDArray[np.int64]
    boxes: Tensor
    mirrored: Tensor
    cut: bool


@dataclass(frozen=True)
class Stream:
    """Images that are decoded while they are used.

    ``rows``: of the packed file (n,); ``side``: of crops, in pixels; ``labels``: int64 (n,), on the device.
    """

    packed: Packed
    rows: npt.NDArray[np.int64]
    side: int
    labels: Tensor

    channels = 3

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> Stream:
        """Return the stream with its labels on the device; images are read and decoded on the host."""
        return replace(self, labels=self.labels.to(device))

    def take(self, rows: Tensor | slice) -> Stream:
        """Return the stream of these rows alone."""
        chosen = self.rows[rows if isinstance(rows, slice) else rows.cpu().numpy()]
        return replace(self, rows=chosen, labels=self.labels[rows])

    def batches(self, size: int) -> Generator[Tensor, None, None]:
        """Yield all images in their order, uint8 (b, 3, side, side): the shorter side resized to side x 256 / 224, the
        centre cut out."""
        ranges = (slice(begin, begin + size) for begin in range(0, len(self), size))
        with closing(self._decoded(self._centres(self.rows[batch]) for batch in ranges)) as decoded:
            for pixels in decoded:
                yield pixels(slice(None))[0]

    def iter_views(
        self, rows_by_step: Sequence[Tensor], draws: Tensor, settings: Views
    ) -> Generator[LocalViews, None, None]:
        """Yield the augmented views of each step's samples as ``Split.iter_views`` does, but with crops of the whole
        images."""
        # At once: a copy in every step would wait for the device.
        local_rows, sizes = torch.cat(list(rows_by_step)).cpu(), [len(step) for step in rows_by_step]
        rows = self.rows[local_rows.numpy()]
        heights, widths = (torch.from_numpy(self.packed.index[name][rows]) for name in ("height", "width"))
        parameters = augmentation_parameters.resolve(draws[:, local_rows], settings, self.channels, heights, widths)
        del draws  # of all images, for as long as the epoch takes

        def local_views(pixels: Pixels, own_parameters: Tensor, part: slice) -> Tensor:
            return augment.recolour(pixels(part), own_parameters[:, part], settings)

        on_device = parameters.to(self.labels.device).split(sizes, 1)
        steps = zip(np.split(rows, np.cumsum(sizes)[:-1]), parameters.split(sizes, 1), strict=True)
        with closing(self._decoded(crops_of(*step) for step in steps)) as decoded:
            for pixels, own_parameters in zip(decoded, on_device, strict=True):
                yield partial(local_views, pixels, own_parameters)

    def _centres(self, rows: npt.NDArray[np.int64]) -> Crops:
        entries = self.packed.index[rows]
        edges = [[centre(int(entry["height"]), int(entry["width"]), self.side)] for entry in entries]
        return Crops(rows, torch.tensor(edges, dtype=torch.double), torch.zeros(len(rows), 1, dtype=torch.bool), False)

    def _decoded(self, requests: Iterable[Crops]) -> Generator[Pixels, None, None]:
        """Yield the pixels of each request for crops; some are decoded ahead."""
        waiting: deque[Pixels] = deque()
        pool = ThreadPoolExecutor(torch.get_num_threads(), "decode")
        try:
            for crops in requests:
                waiting.append(self._submit(pool, crops))
                if (len(waiting) - 1) * len(crops.rows) >= ahead(self.labels.device):
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown(wait=False)  # the last pixels may be read after the end

    def _submit(self, pool: ThreadPoolExecutor, crops: Crops) -> Pixels:
        device = self.labels.device
        shape = *crops.mirrored.shape, self.side, self.side, self.channels
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")

        def write(target: npt.NDArray[np.uint8], row: int, boxes: Sequence[Box], mirrored: Sequence[bool]) -> None:
            decoded = decode(self.packed.read(row), boxes, mirrored, self.side, cut=crops.cut)
            for view, crop in enumerate(decoded):
                target[view] = crop

        tasks = zip(pixels.numpy(), crops.rows.tolist(), crops.boxes.tolist(), crops.mirrored.tolist(), strict=True)
        return Pixels(pixels, [pool.submit(write, *task) for task in tasks], device)


@dataclass(frozen=True)
class Pixels:
    """Crops that threads write: uint8 (n, v, side, side, 3); ``decoding``: the task of each image."""

    crops: Tensor
    decoding: Sequence[Future[None]]
    device: torch.device

    def __call__(self, part: slice) -> Tensor:
        """Wait for the decoding of k images, and return uint8 (v, k, 3, side, side) on the device."""
        for image in self.decoding[part]:
            image.result()
        return self.crops[part].to(self.device, non_blocking=True).permute(1, 0, 4, 2, 3)


def decode(
    image: bytes, boxes: Sequence[Box], mirrored: Sequence[bool], side: int, *, cut: bool
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield crops of an image in RGB, each (side, side, 3): bilinear, antialiased; ``cut`` as in ``Crops``."""
    from PIL import Image

    with Image.open(io.BytesIO(image)) as opened:
        width, height = opened.size
        shrink = min(min(right - left, bottom - top) for left, top, right, bottom in boxes) / side
        scale = max((scale for scale in (2, 4, 8) if scale <= shrink), default=1)
        opened.draft(None, (width // scale, height // scale))
        scale = scale if opened.size != (width, height) else 1  # only a JPEG is decoded at a scale
        pixels = rgb(opened)
    for box, mirror in zip(boxes, mirrored, strict=True):
        left, top, right, bottom = (edge / scale for edge in box)
        x, y = (math.floor(left), math.floor(top)) if cut else (0, 0)
        inside = pixels.crop((x, y, math.ceil(right), math.ceil(bottom))) if cut else pixels
        bounds = (left - x, top - y, right - x, bottom - y)
        crop = inside.resize((side, side), Image.Resampling.BILINEAR, box=bounds)
        yield np.asarray(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else crop)


def crops_of(rows: npt.NDArray[np.int64], parameters: Tensor) -> Crops:
    """Return the crops of these rows with these augmentation parameters, (v, n, len(PARAMETERS))."""
    names = ("top", "left", "height", "width", "mirrored")
    top, left, height, width, mirrored = (parameters[..., augmentation_parameters.FIELD[name]] for name in names)
    edges = torch.stack([left, top, left + width, top + height], 2)
    return Crops(rows, edges.transpose(0, 1), mirrored.T > 0, True)


def centre(height: int, width: int, side: int) -> Box:
    """Return the box that is left of an image when its shorter side is resized to side x 256 / 224 and its centre is
    cut out.

    As torchvision rounds: the longer side down to a whole pixel, the offset to the nearest.
    """
    shorter, resized = min(height, width), round(side * 256 / 224)
    tall, wide = (int(resized * edge / shorter) for edge in (height, width))
    top, left = round((tall - side) / 2), round((wide - side) / 2)
    y, x = height / tall, width / wide
    return left * x, top * y, min((left + side) * x, width), min((top + side) * y, height)


def seconds_per_image(paths: Sequence[Path], side: int, settings: Views) -> float:
    """Return how long one thread takes for the two crops of an image: the median of these files, read beforehand."""
    draws = augmentation_parameters.draw(0, 0, len(paths), settings).split(1, 1)
    return statistics.median(itertools.starmap(partial(_seconds, side, settings), zip(paths, draws, strict=True)))


def _seconds(side: int, settings: Views, path: Path, draws: Tensor) -> float:
    from PIL import Image

    with naming(path):
        image = path.read_bytes()
        with Image.open(io.BytesIO(image)) as opened:
            width, height = opened.size
        crops = crops_of(
            np.zeros(1, np.int64), augmentation_parameters.resolve(draws, settings, Stream.channels, height, width)
        )
        begun = time.perf_counter()
        list(decode(image, crops.boxes[0].tolist(), crops.mirrored[0].tolist(), side, cut=True))
        return time.perf_counter() - begun


def ahead(device: torch.device) -> int:
    """Return how many images are decoded during a step: none if the step runs on the same cores, whose threads would
    wait for each other (14 % slower on two)."""
    return AHEAD if device.type == "cuda" else 0


def waiting_bytes(local_samples: int, side: int, device: torch.device) -> int:
    """Return the bytes of host memory that crops take at the most, if a process has so many samples in a step: those
    that are decoded ahead, and those of the step and of the one before it."""
    return (math.ceil(ahead(device) / local_samples) + 2) * local_samples * 2 * Stream.channels * side**2
