"""Augmented views as batched tensor code on the device, from the augmentation parameters of each view."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from harness.cell import Views
from harness.ssl.data.augmentation_parameters import BLENDS, CONTRAST, FIELD, SATURATION

LUMA = (0.2989, 0.587, 0.114)  # as torchvision and TensorFlow round them

#: Values that a CPU processes at a time: fewer do not fill its threads, more do not stay in its caches.
CHUNK_VALUES = 2**19

#: The views of this rank's samples of a step: a slice of k samples -> their v views, float32 (v, k, C, H, W) on the
#: device. Called again for the same samples it gives the same bits.
LocalViews = Callable[[slice], Tensor]


def augment(images: Tensor, parameters: Tensor, views: Views) -> Tensor:
    """Return augmented views of images, at the images' own size.

    Args:
        images: uint8 (B, C, S, S).
        parameters: (v, B, len(PARAMETERS)), the augmentation parameters for images of this size.
        views: the settings that they were drawn with.

    Returns:
        float32 (v, B, C, S, S) in [0, 1].
    """
    middles = crop_middles(parameters.flatten(0, 1), images.shape[3])

    def crops(rows: Tensor) -> Tensor:
        return crop(images.index_select(0, rows % len(images)), middles.index_select(1, rows))

    return _coloured(crops, parameters, views, images.shape[1:])


def recolour(crops: Tensor, parameters: Tensor, views: Views) -> Tensor:
    """Return views of crops that are cut already: colours and blur.

    Args:
        crops: uint8 (v, B, C, S, S).
        parameters: (v, B, len(PARAMETERS)).
        views: the settings that they were drawn with.

    Returns:
        float32 (v, B, C, S, S) in [0, 1].
    """
    flat = crops.flatten(0, 1)
    return _coloured(lambda rows: flat.index_select(0, rows) / 255, parameters, views, flat.shape[1:])


def crop_middles(parameters: Tensor, side: int) -> Tensor:
    """Return the places in each image of the middles of its crop's rows and columns: (2, n, side), in pixels.

    Between the middles of the crop's own outermost pixels, as bilinear resampling takes nothing from outside.
    """
    top, height = FIELD["top"], FIELD["height"]
    start, length = (parameters[:, first : first + 2].mT[:, :, None] for first in (top, height))
    place = torch.arange(side, device=parameters.device) + 0.5
    across = torch.where(_column(parameters, "mirrored")[:, None] > 0, place.flip(0), place)
    middles = torch.stack([place.expand_as(across), across]) * (length / side)
    return middles.clamp_(min=0.5).minimum(length - 0.5).add_(start)


def crop(images: Tensor, middles: Tensor) -> Tensor:
    """Return a crop of each image, resized to the image's own size, mirrored or not, in one bilinear resampling.

    A crop is never larger than its image, and where nothing shrinks torchvision's ``resize(antialias=True)`` is this:
    the weight of an image's pixel is 1 - its distance, in pixels. It is separable: ``R X C^T`` with a matrix R for the
    rows and C for the columns of each image. Batched products are faster on a CPU than ``grid_sample``, and unlike
    convolutions they are not rounded to TF32 on a GPU by default.

    Args:
        images: uint8 (B, C, S, S).
        middles: (2, B, S).

    Returns:
        float32 (B, C, S, S) in [0, 1].
    """
    channels, side = images.shape[1:3]
    pixel = torch.arange(side, device=images.device) + 0.5
    # Both factors have the opposite sign, which their product does not show.
    by_row, by_column = (pixel - middles[..., None]).abs_().clamp_(max=1).sub_(1)
    nothing = torch.zeros((), device=images.device)
    narrow = torch.baddbmm(nothing, images.float().flatten(1, 2), by_column.mT, beta=0, alpha=1 / 255)
    crops: Tensor = by_row[:, None] @ narrow.unflatten(1, (channels, side))
    return crops.clamp_(max=1)  # weights sum to 1 but for rounding


def _coloured(crops: Callable[[Tensor], Tensor], parameters: Tensor, views: Views, shape: torch.Size) -> Tensor:
    """Apply colour jitter in random order, grayscale and blur to crops of this shape; return (v, B, C, S, S).

    A GPU does everything to all images, with weights of 0 where nothing is to happen, and so never reads the
    parameters back. A CPU processes those images together whose hue shifts at the same place, and does to an image
    only what its parameters say.

    Args:
        crops: rows (k,) -> their crops, float32 (k, C, S, S) in [0, 1], which are changed in place.
        parameters: (v, B, len(PARAMETERS)).
        views: the settings that they were drawn with.
        shape: of a crop, (C, S, S).
    """
    flat = parameters.flatten(0, 1)
    pixels = _jittered(crops, flat, views, shape)
    # ``lerp`` takes weights of 0 and 1 exactly, and on a CPU a fifth of the time of ``where``.
    if views.gray > 0:
        for images, drawn in _affected(pixels, flat, "gray"):
            images.lerp_(_luma(images) * LUMA[0], _column(drawn, "gray")[:, None, None, None])
    if views.blur > 0:
        for images, drawn in _affected(pixels, flat, "blur"):
            images.lerp_(_blur(images, _column(drawn, "sigma")), _column(drawn, "blur")[:, None, None, None])
    coloured: Tensor = pixels.unflatten(0, parameters.shape[:2])
    return coloured


def _jittered(crops: Callable[[Tensor], Tensor], parameters: Tensor, views: Views, shape: torch.Size) -> Tensor:
    jitter = _jitter_of(parameters, shape[0])
    if parameters.device.type != "cpu":
        pixels = crops(torch.arange(len(parameters), device=parameters.device))
        if views.jitter > 0:
            anywhere = _with_hue_anywhere(jitter, _column(parameters, "before")) if shape[0] == 3 else jitter
            _jitter_(pixels.flatten(2), anywhere, len(jitter.weight))
        return pixels
    pixels = torch.empty(len(parameters), *shape)
    for rows, before in _groups(parameters, views, shape.numel()):
        images = crops(rows)
        if before >= 0:
            _jitter_(images.flatten(2), Jitter(*(field.index_select(1, rows) for field in jitter)), before)
        pixels.index_copy_(0, rows, images)
    return pixels


def _groups(parameters: Tensor, views: Views, values: int) -> Iterator[tuple[Tensor, int]]:
    """Yield rows of images of so many values each, with the number of blends that come before hue in all of them; -1
    without jitter."""
    groups: Sequence[Tensor] = [torch.arange(len(parameters))]
    if views.jitter > 0:
        group = _column(parameters, "before").long() + 1
        groups = group.argsort(stable=True).split(group.bincount(minlength=BLENDS + 2).tolist())
    for before, rows in enumerate(groups, -1):
        for chunk in _chunks(rows, values):
            yield chunk, before


def _affected(pixels: Tensor, parameters: Tensor, operation: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images to change in place, with their parameters: on a CPU those that the operation affects, on a GPU all
    of them."""
    if pixels.device.type != "cpu":
        yield pixels, parameters
        return
    for rows in _chunks(_column(parameters, operation).nonzero()[:, 0], pixels.shape[1:].numel()):
        images = pixels.index_select(0, rows)
        yield images, parameters.index_select(0, rows)
        pixels.index_copy_(0, rows, images)


def _chunks(rows: Tensor, values: int) -> tuple[Tensor, ...]:
    """Split rows of images of so many values each into equal chunks, which a CPU processes one after the other."""
    chunks = max(1, -(-len(rows) * values // CHUNK_VALUES))
    return rows.split(-(-len(rows) // chunks)) if len(rows) > 0 else ()


class Jitter(NamedTuple):
    """The blends of each image, one after another, (blends, n, 1, 1), and the shift of its hue, (1, n, 1, 1).

    A blend is ``clamp(x + weight (anchor - x))``: brightness with the anchor 0, contrast with the mean luma, saturation
    with the pixel's luma. So images in any order go through the same code.
    """

    weight: Tensor
    by_luma: Tensor
    by_mean: Tensor
    hue_shift: Tensor  # in sixths of a turn


def _jitter_of(parameters: Tensor, channels: int) -> Jitter:
    blends = BLENDS if channels == 3 else 2
    weight, operation = (parameters[:, FIELD[f"{what} 0"] :][:, :blends] for what in ("weight", "operation"))
    by_luma, by_mean = ((operation == blend) * LUMA[0] for blend in (SATURATION, CONTRAST))
    fields = weight, by_luma, by_mean, _column(parameters, "hue_shift")[:, None]
    return Jitter(*(field.mT[:, :, None, None] for field in fields))


def _with_hue_anywhere(jitter: Jitter, before: Tensor) -> Jitter:
    """Return all blends before hue and all of them again after it, with a weight of 0 at the place that is not the
    image's."""
    earlier = (torch.arange(len(jitter.weight), device=before.device)[:, None] < before)[:, :, None, None]
    weight = torch.cat([jitter.weight * earlier, jitter.weight * ~earlier])
    return Jitter(weight, jitter.by_luma.repeat(2, 1, 1, 1), jitter.by_mean.repeat(2, 1, 1, 1), jitter.hue_shift)


def _jitter_(pixels: Tensor, jitter: Jitter, before: int) -> None:
    """Apply the jitter to ``pixels`` (B, C, P) in place, with hue after so many blends."""
    blends = list(zip(jitter.weight, jitter.by_luma, jitter.by_mean, strict=True))
    for blend in blends[:before]:
        _blend_(pixels, *blend)
    if pixels.shape[1] == 3:
        _shift_hue_(pixels, jitter.hue_shift[0])
    for blend in blends[before:]:
        _blend_(pixels, *blend)


def _blend_(pixels: Tensor, weight: Tensor, by_luma: Tensor, by_mean: Tensor) -> None:
    luma = _luma(pixels)
    mean = luma.mean(2, keepdim=True).mul_(by_mean)
    pixels.lerp_(luma.mul_(by_luma).add_(mean), weight).clamp_(0, 1)


def _luma(pixels: Tensor) -> Tensor:
    """Return the luma (B, 1, ...) of (B, C, ...), in units of red's weight, which saves an operator."""
    if pixels.shape[1] == 1:
        return pixels / LUMA[0]
    red, green, blue = pixels.split(1, 1)
    return torch.add(red, green, alpha=LUMA[1] / LUMA[0]).add_(blue, alpha=LUMA[2] / LUMA[0])


@cache  # a copy to a GPU would wait for it at every step
def _hues(device: torch.device) -> Tensor:
    """Return the hues at which red, green and blue are full, in sixths of a turn."""
    return torch.tensor([[0.0], [2.0], [-2.0]], device=device)


def _column(parameters: Tensor, name: str) -> Tensor:
    return parameters[:, FIELD[name]]


def _shift_hue_(pixels: Tensor, shift: Tensor) -> None:
    """Shift the hue of ``pixels`` (B, 3, P) by ``shift`` (B, 1, 1) sixths of a turn, of at most 2 either way, in place.

    HSV without branches. Value v and chroma c = v - min stay. With the hue h in (-3, 3], red at 0 and the sign that of
    green - blue, |h| c = v - 2 min + green + blue - red, as is seen on each of its three unit intervals. A channel that
    is full at hue o is ``min + c clamp(||h - o| - 3| - 1, 0, 1)`` for any |h - o| <= 7; o = 0, 2, -2.
    """
    red, green, blue = pixels.split(1, dim=1)
    high, low = (extreme(extreme(red, green), blue) for extreme in (torch.maximum, torch.minimum))
    chroma = high - low
    hue = torch.copysign((green + blue).sub_(red).add_(high).sub_(low, alpha=2), green - blue)
    hue.div_(chroma.clamp(min=1e-8)).add_(shift)
    torch.sub(hue, _hues(pixels.device), out=pixels)
    pixels.abs_().sub_(3).abs_().clamp_(1, 2)
    torch.addcmul(low - chroma, pixels, chroma, out=pixels)


def _blur(pixels: Tensor, sigma: Tensor) -> Tensor:
    """Blur each square image by its own ``sigma`` (B,): ``G x G^T`` with a Gaussian matrix G for each image.

    Batched products are faster on a CPU than grouped convolutions or sums of shifted images, and unlike convolutions
    they are not rounded to TF32 on a GPU by default.
    """
    matrix = _gaussian_matrix(sigma, pixels.shape[3])
    along_rows = torch.bmm(pixels.flatten(1, 2), matrix.mT).view_as(pixels)
    return (matrix[:, None] @ along_rows).clamp_(max=1)  # weights sum to 1 but for rounding


def _gaussian_matrix(sigma: Tensor, side: int) -> Tensor:
    """Return (B, side, side): row i weighs the pixels around i, reflected at the border.

    As in SimCLR's code the kernel is a tenth of the side wide, rounded down to half widths; here at least 3.
    """
    radius = max(1, side // 10 // 2)
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    weights = (-(offsets / sigma[:, None]).square() / 2).softmax(1)
    pixel = (torch.arange(side, device=sigma.device)[:, None] + offsets).abs()
    reflected = (side - 1) - (side - 1 - pixel).abs()
    return torch.einsum("bk,ikj->bij", weights, one_hot(reflected, side).to(weights.dtype))
