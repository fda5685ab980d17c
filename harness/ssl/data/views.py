"""Augmented views as batched tensor code on the device, with parameters drawn per sample.

SimCLR's augmentation (arXiv 2002.05709, appendix A): random resized crop, flip, colour jitter, grayscale, Gaussian
blur. Images of one channel have no saturation, hue or grayscale.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from harness.cell import Views
from harness.ssl.streams import stream

#: Uniform draws of one view, in this order.
DRAWS = ("area", "ratio", "x", "y", "flip", "jitter", "brightness", "contrast", "saturation", "hue", "gray")

#: torchvision draws area and aspect again, at the most nine times, until the box lies inside the image.
TRIES = 10
RETRY_DRAWS = tuple(f"{name} {again}" for again in range(2, TRIES + 1) for name in ("area", "ratio"))

#: Of the jitter's operations.
ORDER_DRAWS = ("order",)

BLUR_DRAWS = ("blur", "sigma")

#: Draws that came later have streams of their own, so that they leave the others alone.
STREAMS = {"views": DRAWS, "boxes": RETRY_DRAWS, "order": ORDER_DRAWS, "blur": BLUR_DRAWS}
COLUMN = {name: column for column, name in enumerate(itertools.chain(*STREAMS.values()))}

ASPECT = 4 / 3  # the largest; the smallest is its inverse
JITTER_PROBABILITY = 0.8
LUMA = (0.2989, 0.587, 0.114)  # as torchvision and TensorFlow round them
SIGMA = (0.1, 2.0)  # pixels
BRIGHTNESS, CONTRAST, SATURATION, HUE, NOTHING = range(5)
ORDERS = tuple(itertools.permutations((BRIGHTNESS, CONTRAST, SATURATION, HUE)))

#: Numbers that a CPU takes at a time: fewer do not fill its threads, more are fresh memory at every step.
PART = 2**19


#: Of one rank's samples in a step: those of a slice -> their v views, float32 (v, k, C, H, W) on the device. It may be
#: asked again for the same samples, and gives the same bits.
Share = Callable[[slice], Tensor]


class Boxes(NamedTuple):
    """One crop an image, each field of shape (B,): int64 pixels, and whether the crop is mirrored."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flipped: Tensor


def columns(views: Views) -> int:
    """How many draws a view takes."""
    return sum(map(len, _streams(views).values()))


def _streams(views: Views) -> dict[str, tuple[str, ...]]:
    return {purpose: names for purpose, names in STREAMS.items() if purpose != "blur" or views.blur > 0}


def draw(seed: int, epoch: int, samples: int, views: Views) -> Tensor:
    """The draws of all samples' two views in an epoch: (2, samples, columns(views)), uniform in [0, 1)."""

    def uniform(purpose: str, names: tuple[str, ...]) -> Tensor:
        streams = [stream(seed, purpose, epoch, view) for view in (0, 1)]
        return torch.stack([torch.from_numpy(own.random((samples, len(names)), dtype="float32")) for own in streams])

    return torch.cat([uniform(purpose, names) for purpose, names in _streams(views).items()], 2)


def augment(images: Tensor, draws: Tensor, views: Views) -> Tensor:
    """One augmented view of each image, at the images' own size.

    Args:
        images: uint8 (B, C, S, S).
        draws: (B, columns(views)), one row an image.

    Returns:
        float32 (B, C, S, S) in [0, 1].
    """
    return recolour(crop(images, draws, views, images.shape[3]), draws, views)


def boxes(draws: Tensor, views: Views, heights: Tensor | int, widths: Tensor | int) -> Boxes:
    """The crops of images of these sizes: whole pixels, drawn as torchvision's RandomResizedCrop draws them.

    The area is uniform in [crop_min, 1] of the image's, the aspect (width : height, of pixels) log-uniform in
    [3/4, 4/3]; the first of ten tries that lies inside the image counts. Fractions of pixels would cost the same; whole
    ones are the published recipe, and any decoder can cut them out before it resizes.

    Args:
        draws: (B, columns(views)).
        heights, widths: of the images in pixels, (B,) on the draws' device, or one for all.
    """
    rows, columns_ = (
        size if isinstance(size, Tensor) else torch.full((len(draws),), size, device=draws.device)
        for size in (heights, widths)
    )
    first, again = (draws[:, COLUMN[names[0]] :][:, : len(names)] for names in (DRAWS[:2], RETRY_DRAWS))
    # In doubles, so that no device rounds to another pixel.
    areas, ratios = torch.cat([first, again], 1).double().unflatten(1, (TRIES, 2)).unbind(2)
    area = (views.crop_min + (1 - views.crop_min) * areas) * (rows * columns_)[:, None]
    area, aspect = area.sqrt_(), torch.exp((ratios - 0.5) * math.log(ASPECT))  # both as square roots
    height, width = (area / aspect).round(), (area * aspect).round()
    fits = (height > 0) & (height <= rows[:, None]) & (width > 0) & (width <= columns_[:, None])
    chosen = fits.int().argmax(1, keepdim=True)
    # If none fits: the largest crop of an allowed aspect, in the middle.
    middle = ~fits.any(1)
    height = torch.where(middle, torch.minimum(rows, (columns_ * ASPECT).round()), height.gather(1, chosen)[:, 0])
    width = torch.where(middle, torch.minimum(columns_, (rows * ASPECT).round()), width.gather(1, chosen)[:, 0])
    top = torch.where(middle, (rows - height) / 2, _of(draws, "y").double() * (rows - height + 1)).floor()
    left = torch.where(middle, (columns_ - width) / 2, _of(draws, "x").double() * (columns_ - width + 1)).floor()
    return Boxes(top.long(), left.long(), height.long(), width.long(), _of(draws, "flip") < views.flip)


def crop(images: Tensor, draws: Tensor, views: Views, side: int) -> Tensor:
    """A random resized crop of each image, mirrored or not, in one antialiased bilinear resampling.

    It is separable: ``R X C^T`` with a matrix R for the rows and C for the columns of each image. Batched products are
    faster on a CPU than ``grid_sample``, and unlike convolutions they are not rounded to TF32 on a GPU by default.

    Args:
        images: uint8 (B, C, H, W).
        draws: (B, columns(views)).
        side: of the crops, in pixels.

    Returns:
        float32 (B, C, side, side) in [0, 1].
    """
    channels, height, width = images.shape[1:]
    top, left, rows, columns_, flipped = boxes(draws, views, height, width)
    down = _places(top, rows, torch.zeros_like(flipped), height, side)
    across = _places(left, columns_, flipped, width, side)
    crops = torch.empty(len(images), channels, side, side, device=images.device)
    zero = torch.zeros((), device=images.device)
    for part in _parts(len(images), 2 * images[0].numel(), images.device):
        by_row = _weights(*(places[part] for places in down), normalise=side < height)
        by_column = _weights(*(places[part] for places in across), normalise=side < width)
        narrow = torch.baddbmm(zero, images[part].float().flatten(1, 2), by_column.mT, beta=0, alpha=1 / 255)
        torch.matmul(by_row[:, None], narrow.unflatten(1, (channels, height)), out=crops[part])
        crops[part].clamp_(max=1)  # weights sum to 1 but for rounding
    return crops


def _parts(count: int, numbers: int, device: torch.device) -> list[slice]:
    """Equal slices of ``count`` images of so many numbers: one after the other on a CPU, all at once on a GPU."""
    parts = max(1, -(-count * numbers // PART)) if device.type == "cpu" else 1
    size = max(1, -(-count // parts))
    return [slice(first, first + size) for first in range(0, count, size)]


def _places(start: Tensor, length: Tensor, flipped: Tensor, size: int, side: int) -> tuple[Tensor, Tensor]:
    """Where a crop's pixels (B, side) and the image's (B, size) are, in units of a weight's half width.

    The weights are those of torchvision's ``resize(antialias=True)``: a triangle of half width max(1, length / side)
    around the pixel's place in the image, cut at the crop's ends and then normalised. Of half width 1 that is the
    triangle around the place, or around the crop's outermost pixel where the place is farther out.
    """
    start, end, scale = start[:, None], (start + length)[:, None], (length / side)[:, None]
    place = torch.arange(side, device=start.device) + 0.5
    centre = start + scale * torch.where(flipped[:, None], side - place, place)
    pixel = torch.arange(size, device=start.device) + 0.5
    if side >= size:
        return torch.minimum(torch.maximum(centre, start + 0.5), end - 0.5), pixel.expand(len(start), size)
    unit = scale.clamp(min=1)
    return centre / unit, torch.where((pixel > start) & (pixel < end), pixel / unit, math.inf)


def _weights(centre: Tensor, pixel: Tensor, *, normalise: bool) -> Tensor:
    """(B, side, size): row i weighs the image's pixels for pixel i of the crop; with a minus, which two such factors do
    not show."""
    weights = (pixel[:, None] - centre[:, :, None]).abs_().clamp_(max=1).sub_(1)
    return weights.div_(weights.sum(2, keepdim=True).neg_()) if normalise else weights


class Jitter(NamedTuple):
    """The jitter of each image; (B,), and (B, steps) where there are steps.

    A step is ``clamp(x + weight (anchor - x))`` with the weight 1 - factor: brightness with the anchor 0, contrast with
    the mean luma, saturation with the pixel's luma. So images in any order go through the same code. Images of three
    channels have three steps before hue and three after it, of which three do nothing (weight 0); others have two.
    """

    weight: Tensor
    by_luma: Tensor
    by_mean: Tensor
    before: Tensor  # how many of the first three steps do something; -1 without jitter
    turn: Tensor  # of hue, in sixths of a turn


def recolour(pixels: Tensor, draws: Tensor, views: Views) -> Tensor:
    """Colour jitter in random order, grayscale and blur of each image, in place.

    A GPU does everything to all images, with weights of 0 where nothing is to happen, and so never looks at the draws.
    A CPU takes out the images to which something happens; those to jitter, in four groups that turn hue at the same
    step.

    Args:
        pixels: float32 (B, C, H, W) in [0, 1]; square where they may be blurred.
        draws: (B, columns(views)).

    Returns:
        ``pixels``, in [0, 1].
    """
    on_cpu, coloured = pixels.device.type == "cpu", pixels.shape[1] == 3
    if views.jitter > 0:
        jitter = _jitter(draws, views.jitter, pixels.shape[1])
        steps = range(jitter.weight.shape[1])
        for before in range(4) if on_cpu else [3]:
            active = [step for step in steps if step < before or 3 <= step < 6 - before or not on_cpu]
            for own, rows in _taken(pixels, jitter.before == before):
                _jitter_(own.flatten(2), Jitter(*(field[rows] for field in jitter)), active)
    # ``lerp`` takes weights of 0 and 1 exactly, and on a CPU a fifth of the time of ``where``.
    if views.gray > 0 and coloured:
        gray = _of(draws, "gray") < views.gray
        for own, rows in _taken(pixels, gray):
            own.lerp_(_luma(own), gray[rows].float()[:, None, None, None])
    if views.blur > 0:
        blur, sigma = _of(draws, "blur") < views.blur, SIGMA[0] + (SIGMA[1] - SIGMA[0]) * _of(draws, "sigma")
        for own, rows in _taken(pixels, blur):
            own.lerp_(_blur(own, sigma[rows]), blur[rows].float()[:, None, None, None])
    return pixels


def _taken(pixels: Tensor, chosen: Tensor) -> Iterator[tuple[Tensor, Tensor | slice]]:
    """Images to change in place, and their rows: on a CPU the chosen ones in parts, on a GPU all of them at once."""
    if pixels.device.type != "cpu":
        yield pixels, slice(None)
        return
    rows, flat = chosen.nonzero()[:, 0], pixels.flatten(1)
    for part in _parts(len(rows), flat.shape[1], pixels.device):
        own = flat.index_select(0, rows[part])
        yield own.view(-1, *pixels.shape[1:]), rows[part]
        flat.index_copy_(0, rows[part], own)


def _jitter(draws: Tensor, strength: float, channels: int) -> Jitter:
    """Brightness, contrast, saturation by 1 +- .8 strength, hue by +- .2 strength of a turn, in the drawn order."""
    low, high = max(0.0, 1 - 0.8 * strength), 1 + 0.8 * strength
    factors = low + (high - low) * draws[:, COLUMN["brightness"] : COLUMN["saturation"] + 1]
    jittered = _of(draws, "jitter") < JITTER_PROBABILITY
    operations = _steps(channels, draws.device)[(_of(draws, "order") * len(ORDERS)).long()]
    before = (operations[:, :3] != NOTHING).sum(1)
    return Jitter(
        weight=pad(1 - factors, (0, NOTHING - SATURATION)).gather(1, operations) * jittered[:, None],
        by_luma=(operations == SATURATION).float(),
        by_mean=(operations == CONTRAST).float(),
        before=torch.where(jittered, before, -1),
        turn=6 * 0.2 * strength * (2 * _of(draws, "hue") - 1) * jittered,
    )


@cache  # a copy to a GPU would wait for it at every step
def _steps(channels: int, device: torch.device) -> Tensor:
    """The operation of each step in each order, (24, steps)."""
    if channels == 1:
        steps = [[operation for operation in order if operation in (BRIGHTNESS, CONTRAST)] for order in ORDERS]
    else:
        hues = [order.index(HUE) for order in ORDERS]
        steps = [
            [*order[:hue], *[NOTHING] * (3 - hue), *order[hue + 1 :], *[NOTHING] * hue]
            for order, hue in zip(ORDERS, hues, strict=True)
        ]
    return torch.tensor(steps, device=device)


@cache
def _hues(device: torch.device) -> Tensor:
    """At which red, green and blue are full, in sixths of a turn."""
    return torch.tensor([[0.0], [2.0], [-2.0]], device=device)


def _of(draws: Tensor, name: str) -> Tensor:
    return draws[:, COLUMN[name]]


def _jitter_(pixels: Tensor, jitter: Jitter, steps: Sequence[int]) -> None:
    """These steps of the jitter of ``pixels`` (B, C, P), in place."""
    _blend_(pixels, jitter, [step for step in steps if step < 3])
    if pixels.shape[1] == 3:
        _turn_hue_(pixels, jitter.turn)
    _blend_(pixels, jitter, [step for step in steps if step >= 3])


def _blend_(pixels: Tensor, jitter: Jitter, steps: Sequence[int]) -> None:
    weights, by_luma, by_mean = (field.mT[:, :, None, None] for field in jitter[:3])
    for step in steps:
        luma = _luma(pixels)
        mean = luma.mean(2, keepdim=True)
        pixels.lerp_(luma.mul_(by_luma[step]).add_(mean.mul_(by_mean[step])), weights[step]).clamp_(0, 1)


def _luma(pixels: Tensor) -> Tensor:
    """Of (B, C, ...): (B, 1, ...)."""
    if pixels.shape[1] == 1:
        return pixels.clone()
    red, green, blue = pixels.split(1, dim=1)
    luma: Tensor = red * LUMA[0]
    return luma.add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def _turn_hue_(pixels: Tensor, shift: Tensor) -> None:
    """Turn the hue of ``pixels`` (B, 3, P) by ``shift`` (B,) sixths of a turn, of at most 2 either way, in place.

    HSV without branches. Value v and chroma c = v - min stay. With the hue h in (-3, 3], red at 0 and the sign that of
    green - blue, |h| c = v - 2 min + green + blue - red, as is seen on each of its three unit intervals. A channel that
    is full at hue o is ``min + c clamp(||h - o| - 3| - 1, 0, 1)`` for any |h - o| <= 7; o = 0, 2, -2.
    """
    red, green, blue = pixels.split(1, dim=1)
    high, low = pixels.amax(1, keepdim=True), pixels.amin(1, keepdim=True)
    chroma = high - low
    hue = torch.copysign((green + blue).sub_(red).add_(high).sub_(low, alpha=2), green - blue)
    hue.div_(chroma.clamp(min=1e-8)).add_(shift[:, None, None])
    torch.sub(hue, _hues(pixels.device), out=pixels)
    pixels.abs_().sub_(3).abs_().clamp_(1, 2)
    torch.addcmul(low - chroma, pixels, chroma, out=pixels)


def _blur(pixels: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each square image by its own ``sigma`` (B,), separable: ``G x G^T`` with a matrix G an image.

    Batched products are faster on a CPU than grouped convolutions or sums of shifted images, and unlike convolutions
    they are not rounded to TF32 on a GPU by default.
    """
    matrix = _gaussian_matrix(sigma, pixels.shape[3])
    along_rows = torch.bmm(pixels.flatten(1, 2), matrix.mT).view_as(pixels)
    return (matrix[:, None] @ along_rows).clamp_(max=1)  # weights sum to 1 but for rounding


def _gaussian_matrix(sigma: Tensor, side: int) -> Tensor:
    """(B, side, side): row i weighs the pixels around i, reflected at the border.

    As in SimCLR's code the kernel is a tenth of the side wide, rounded down to half widths; here at least 3.
    """
    radius = max(1, side // 10 // 2)
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    weights = (-(offsets / sigma[:, None]).square() / 2).softmax(1)
    pixel = (torch.arange(side, device=sigma.device)[:, None] + offsets).abs()
    reflected = (side - 1) - (side - 1 - pixel).abs()
    return torch.einsum("bk,ikj->bij", weights, one_hot(reflected, side).to(weights.dtype))
