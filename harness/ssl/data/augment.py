"""Augmented views as batched tensor code on the device, as each image's recipe says."""

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

#: Numbers that a CPU takes at a time: fewer do not fill its threads, more do not stay in its caches.
PART = 2**19

#: Of one rank's samples in a step: those of a slice -> their v views, float32 (v, k, C, H, W) on the device. It may be
#: asked again for the same samples, and gives the same bits.
LocalViews = Callable[[slice], Tensor]


def augment(images: Tensor, parameters: Tensor, views: Views) -> Tensor:
    """Augmented views of images, at the images' own size.

    Args:
        images: uint8 (B, C, S, S).
        recipes: (v, B, len(RECIPE)), for images of this size.

    Returns:
        float32 (v, B, C, S, S) in [0, 1].
    """
    middles = crop_middles(parameters.flatten(0, 1), images.shape[3])

    def crops(rows: Tensor) -> Tensor:
        return crop(images.index_select(0, rows % len(images)), middles.index_select(1, rows))

    return _coloured(crops, parameters, views, images.shape[1:])


def recolour(crops: Tensor, recipes: Tensor, views: Views) -> Tensor:
    """The colours of views, for crops that are there.

    Args:
        crops: uint8 (v, B, C, S, S).
        recipes: (v, B, len(RECIPE)).

    Returns:
        float32 (v, B, C, S, S) in [0, 1].
    """
    every = crops.flatten(0, 1)
    return _coloured(lambda rows: every.index_select(0, rows) / 255, recipes, views, every.shape[1:])


def crop_middles(recipes: Tensor, side: int) -> Tensor:
    """Where in an image the middles of its crop's rows and columns of pixels are: (2, n, side), in pixels.

    Between the middles of the crop's own outermost pixels, as bilinear resampling takes nothing from outside.
    """
    top, height = FIELD["top"], FIELD["height"]
    start, length = (recipes[:, first : first + 2].mT[:, :, None] for first in (top, height))
    place = torch.arange(side, device=recipes.device) + 0.5
    across = torch.where(_of(recipes, "mirrored")[:, None] > 0, place.flip(0), place)
    middles = torch.stack([place.expand_as(across), across]) * (length / side)
    return middles.clamp_(min=0.5).minimum(length - 0.5).add_(start)


def crop(images: Tensor, middles: Tensor) -> Tensor:
    """A crop of each image, resized to the image's own size, mirrored or not, in one bilinear resampling.

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
    # With a minus, which two such factors do not show.
    by_row, by_column = (pixel - middles[..., None]).abs_().clamp_(max=1).sub_(1)
    nothing = torch.zeros((), device=images.device)
    narrow = torch.baddbmm(nothing, images.float().flatten(1, 2), by_column.mT, beta=0, alpha=1 / 255)
    crops: Tensor = by_row[:, None] @ narrow.unflatten(1, (channels, side))
    return crops.clamp_(max=1)  # weights sum to 1 but for rounding


def _coloured(crops: Callable[[Tensor], Tensor], recipes: Tensor, views: Views, shape: torch.Size) -> Tensor:
    """Colour jitter in random order, grayscale and blur of crops of this shape: (v, B, C, S, S).

    ``crops``: rows (k,) -> their crops, float32 (k, C, S, S) in [0, 1], that are changed in place.

    A GPU does everything to all images, with weights of 0 where nothing is to happen, and so never looks at the
    recipes. A CPU takes those images together that turn hue at the same step, and does to an image what it is to.
    """
    every = recipes.flatten(0, 1)
    pixels = _jittered(crops, every, views, shape)
    # ``lerp`` takes weights of 0 and 1 exactly, and on a CPU a fifth of the time of ``where``.
    if views.gray > 0:
        for own, recipe in _taken(pixels, every, "gray"):
            own.lerp_(_luma(own) * LUMA[0], _of(recipe, "gray")[:, None, None, None])
    if views.blur > 0:
        for own, recipe in _taken(pixels, every, "blur"):
            own.lerp_(_blur(own, _of(recipe, "sigma")), _of(recipe, "blur")[:, None, None, None])
    coloured: Tensor = pixels.unflatten(0, recipes.shape[:2])
    return coloured


def _jittered(crops: Callable[[Tensor], Tensor], recipes: Tensor, views: Views, shape: torch.Size) -> Tensor:
    jitter = _jitter_of(recipes, shape[0])
    if recipes.device.type != "cpu":
        pixels = crops(torch.arange(len(recipes), device=recipes.device))
        if views.jitter > 0:
            anywhere = _with_hue_anywhere(jitter, _of(recipes, "before")) if shape[0] == 3 else jitter
            _jitter_(pixels.flatten(2), anywhere, len(jitter.weight))
        return pixels
    pixels = torch.empty(len(recipes), *shape)
    for rows, before in _groups(recipes, views, shape.numel()):
        own = crops(rows)
        if before >= 0:
            _jitter_(own.flatten(2), Jitter(*(field.index_select(1, rows) for field in jitter)), before)
        pixels.index_copy_(0, rows, own)
    return pixels


def _groups(recipes: Tensor, views: Views, numbers: int) -> Iterator[tuple[Tensor, int]]:
    """Rows of images of so many numbers, and of how many blends come before hue in all of them; -1 without jitter."""
    groups: Sequence[Tensor] = [torch.arange(len(recipes))]
    if views.jitter > 0:
        group = _of(recipes, "before").long() + 1
        groups = group.argsort(stable=True).split(group.bincount(minlength=BLENDS + 2).tolist())
    for before, rows in enumerate(groups, -1):
        for part in _parts(rows, numbers):
            yield part, before


def _taken(pixels: Tensor, recipes: Tensor, what: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Images to change in place, and their recipes: on a CPU those to which this is done, on a GPU all."""
    if pixels.device.type != "cpu":
        yield pixels, recipes
        return
    for rows in _parts(_of(recipes, what).nonzero()[:, 0], pixels.shape[1:].numel()):
        own = pixels.index_select(0, rows)
        yield own, recipes.index_select(0, rows)
        pixels.index_copy_(0, rows, own)


def _parts(rows: Tensor, numbers: int) -> tuple[Tensor, ...]:
    """Rows of images of so many numbers, in equal parts that a CPU takes one after the other."""
    parts = max(1, -(-len(rows) * numbers // PART))
    return rows.split(-(-len(rows) // parts)) if len(rows) > 0 else ()


class Jitter(NamedTuple):
    """What is blended into each image in turn, (blends, n, 1, 1), and the turn of its hue, (1, n, 1, 1).

    A blend is ``clamp(x + weight (anchor - x))``: brightness with the anchor 0, contrast with the mean luma, saturation
    with the pixel's luma. So images in any order go through the same code.
    """

    weight: Tensor
    by_luma: Tensor
    by_mean: Tensor
    turn: Tensor  # in sixths


def _jitter_of(recipes: Tensor, channels: int) -> Jitter:
    blends = BLENDS if channels == 3 else 2
    weight, operation = (recipes[:, FIELD[f"{what} 0"] :][:, :blends] for what in ("weight", "operation"))
    by_luma, by_mean = ((operation == one) * LUMA[0] for one in (SATURATION, CONTRAST))
    fields = weight, by_luma, by_mean, _of(recipes, "turn")[:, None]
    return Jitter(*(field.mT[:, :, None, None] for field in fields))


def _with_hue_anywhere(jitter: Jitter, before: Tensor) -> Jitter:
    """All blends before hue and all of them again after it, of which an image's own have a weight."""
    earlier = (torch.arange(len(jitter.weight), device=before.device)[:, None] < before)[:, :, None, None]
    weight = torch.cat([jitter.weight * earlier, jitter.weight * ~earlier])
    return Jitter(weight, jitter.by_luma.repeat(2, 1, 1, 1), jitter.by_mean.repeat(2, 1, 1, 1), jitter.turn)


def _jitter_(pixels: Tensor, jitter: Jitter, before: int) -> None:
    """The jitter of ``pixels`` (B, C, P) in place, with hue after so many blends."""
    blends = list(zip(jitter.weight, jitter.by_luma, jitter.by_mean, strict=True))
    for blend in blends[:before]:
        _blend_(pixels, *blend)
    if pixels.shape[1] == 3:
        _turn_hue_(pixels, jitter.turn[0])
    for blend in blends[before:]:
        _blend_(pixels, *blend)


def _blend_(pixels: Tensor, weight: Tensor, by_luma: Tensor, by_mean: Tensor) -> None:
    luma = _luma(pixels)
    mean = luma.mean(2, keepdim=True).mul_(by_mean)
    pixels.lerp_(luma.mul_(by_luma).add_(mean), weight).clamp_(0, 1)


def _luma(pixels: Tensor) -> Tensor:
    """Of (B, C, ...): (B, 1, ...), in units of red's weight, which saves an operator."""
    if pixels.shape[1] == 1:
        return pixels / LUMA[0]
    red, green, blue = pixels.split(1, 1)
    return torch.add(red, green, alpha=LUMA[1] / LUMA[0]).add_(blue, alpha=LUMA[2] / LUMA[0])


@cache  # a copy to a GPU would wait for it at every step
def _hues(device: torch.device) -> Tensor:
    """At which red, green and blue are full, in sixths of a turn."""
    return torch.tensor([[0.0], [2.0], [-2.0]], device=device)


def _of(recipes: Tensor, name: str) -> Tensor:
    return recipes[:, FIELD[name]]


def _turn_hue_(pixels: Tensor, shift: Tensor) -> None:
    """Turn the hue of ``pixels`` (B, 3, P) by ``shift`` (B, 1, 1) sixths of a turn, of at most 2 either way, in place.

    HSV without branches. Value v and chroma c = v - min stay. With the hue h in (-3, 3], red at 0 and the sign that of
    green - blue, |h| c = v - 2 min + green + blue - red, as is seen on each of its three unit intervals. A channel that
    is full at hue o is ``min + c clamp(||h - o| - 3| - 1, 0, 1)`` for any |h - o| <= 7; o = 0, 2, -2.
    """
    red, green, blue = pixels.split(1, dim=1)
    high, low = (of(of(red, green), blue) for of in (torch.maximum, torch.minimum))
    chroma = high - low
    hue = torch.copysign((green + blue).sub_(red).add_(high).sub_(low, alpha=2), green - blue)
    hue.div_(chroma.clamp(min=1e-8)).add_(shift)
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
