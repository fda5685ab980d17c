"""Augmented views as batched tensor code on the device, with parameters drawn per sample.

SimCLR's augmentation (arXiv 2002.05709, appendix A): random resized crop, flip, colour jitter, grayscale, Gaussian
blur. Images of one channel have no saturation, hue or grayscale.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

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

ASPECT = 4 / 3  # the largest; the smallest is its inverse
JITTER_PROBABILITY = 0.8
LUMA = (0.2989, 0.587, 0.114)  # as torchvision and TensorFlow round them
SIGMA = (0.1, 2.0)  # pixels
OPERATIONS = ("brightness", "contrast", "saturation", "hue")
ORDERS = tuple(itertools.permutations(range(len(OPERATIONS))))


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
        heights, widths: of the images in pixels, (B,) or one for all.
    """
    u = _named(draws.double(), views)  # so that no device rounds to another pixel
    rows, columns_ = (torch.as_tensor(size, device=draws.device).expand(len(draws)) for size in (heights, widths))
    tries = ["", *(f" {again}" for again in range(2, TRIES + 1))]
    area = views.crop_min + (1 - views.crop_min) * torch.stack([u[f"area{again}"] for again in tries], 1)
    area = area * (rows * columns_)[:, None]
    aspect = torch.exp((2 * torch.stack([u[f"ratio{again}"] for again in tries], 1) - 1) * math.log(ASPECT))
    height, width = (area / aspect).sqrt().round(), (area * aspect).sqrt().round()
    fits = (height > 0) & (height <= rows[:, None]) & (width > 0) & (width <= columns_[:, None])
    first = fits.int().argmax(1, keepdim=True)
    # If none fits: the largest crop of an allowed aspect, in the middle.
    middle = ~fits.any(1)
    height = torch.where(middle, torch.minimum(rows, (columns_ * ASPECT).round()), height.gather(1, first)[:, 0])
    width = torch.where(middle, torch.minimum(columns_, (rows * ASPECT).round()), width.gather(1, first)[:, 0])
    top = torch.where(middle, (rows - height) / 2, u["y"] * (rows - height + 1)).floor()
    left = torch.where(middle, (columns_ - width) / 2, u["x"] * (columns_ - width + 1)).floor()
    return Boxes(top.long(), left.long(), height.long(), width.long(), u["flip"] < views.flip)


def crop(images: Tensor, draws: Tensor, views: Views, side: int) -> Tensor:
    """A random resized crop of each image, mirrored or not, in one antialiased bilinear resampling.

    Args:
        images: uint8 (B, C, H, W).
        draws: (B, columns(views)).
        side: of the crops, in pixels.

    Returns:
        float32 (B, C, side, side) in [0, 1].
    """
    box = boxes(draws, views, images.shape[2], images.shape[3])
    never = torch.zeros_like(box.flipped)
    rows = _resampling(box.top, box.height, never, images.shape[2], side) / 255
    columns_ = _resampling(box.left, box.width, box.flipped, images.shape[3], side)
    wide = torch.bmm(images.float().flatten(1, 2), columns_.mT).unflatten(1, images.shape[1:3])
    return (rows[:, None] @ wide).clamp_(max=1)  # weights sum to 1 but for rounding


def _resampling(start: Tensor, length: Tensor, flipped: Tensor, size: int, side: int) -> Tensor:
    """(B, side, size): row i weighs the pixels for pixel i of the crop, as torchvision's ``resize(antialias=True)``.

    The weights are a triangle around the pixel's place in the image, of half width max(1, length / side), cut at the
    crop's ends and then normalised.
    """
    scale = (length / side)[:, None]
    place = torch.arange(side, device=start.device) + 0.5
    centre = start[:, None] + scale * torch.where(flipped[:, None], side - place, place)
    pixel = torch.arange(size, device=start.device)
    weights: Tensor = (1 - (pixel + 0.5 - centre[:, :, None]).abs() / scale.clamp(min=1)[:, :, None]).clamp_(min=0)
    weights *= ((pixel >= start[:, None]) & (pixel < (start + length)[:, None]))[:, None]
    return weights.div_(weights.sum(2, keepdim=True))


def recolour(pixels: Tensor, draws: Tensor, views: Views) -> Tensor:
    """Colour jitter in random order, grayscale and blur of each image.

    Args:
        pixels: float32 (B, C, H, W) in [0, 1]; square where they may be blurred.
        draws: (B, columns(views)).

    Returns:
        float32 (B, C, H, W) in [0, 1].
    """
    u = _named(draws, views)
    if views.jitter > 0:
        pixels = torch.where(_column(u["jitter"] < JITTER_PROBABILITY), _jitter(pixels, u, views.jitter), pixels)
    if views.gray > 0 and pixels.shape[1] == 3:
        pixels = torch.where(_column(u["gray"] < views.gray), _gray(pixels), pixels)
    if views.blur > 0:
        sigma = SIGMA[0] + (SIGMA[1] - SIGMA[0]) * u["sigma"]
        pixels = torch.where(_column(u["blur"] < views.blur), _blur(pixels, sigma), pixels)
    return pixels


def _named(draws: Tensor, views: Views) -> dict[str, Tensor]:
    return dict(zip(itertools.chain(*_streams(views).values()), draws.unbind(1), strict=True))


def _jitter(pixels: Tensor, u: dict[str, Tensor], strength: float) -> Tensor:
    """Brightness, contrast, saturation by 1 +- .8 strength, hue by +- .2 strength of a turn, in the drawn order."""

    def factor(name: str) -> Tensor:
        low = max(0.0, 1 - 0.8 * strength)
        return _column(low + (1 + 0.8 * strength - low) * u[name])

    orders = torch.tensor(ORDERS, device=pixels.device)[(u["order"] * len(ORDERS)).long()]
    for operation in orders.unbind(1):
        brightness, contrast, saturation, hue = (_column(operation == index) for index in range(4))
        gray = _gray(pixels)
        anchors = [(brightness, torch.zeros_like(gray)), (contrast, gray.mean((1, 2, 3), keepdim=True))]
        if pixels.shape[1] == 3:
            anchors.append((saturation, gray))
        before = pixels
        for (chosen, anchor), name in zip(anchors, OPERATIONS, strict=False):
            pixels = torch.where(chosen, torch.lerp(anchor, before, factor(name)).clamp(0, 1), pixels)
        if pixels.shape[1] == 3:
            pixels = torch.where(hue, _shift_hue(before, _column((2 * u["hue"] - 1) * 0.2 * strength)), pixels)
    return pixels


def _gray(pixels: Tensor) -> Tensor:
    """Luma, in all channels."""
    if pixels.shape[1] == 1:
        return pixels
    weights = torch.tensor(LUMA, device=pixels.device).view(1, 3, 1, 1)
    return (pixels * weights).sum(1, keepdim=True).expand_as(pixels)


def _shift_hue(pixels: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` (B, 1, 1, 1) turns, through HSV.

    Channel c of the colour (h, s, v) is ``v - v s clamp(min(k, 4 - k), 0, 1)``, ``k = (n_c + 6 h) mod 6`` and
    n = 5, 3, 1 for red, green, blue.
    """
    value, low = pixels.amax(1, keepdim=True), pixels.amin(1, keepdim=True)
    chroma = value - low
    red, green, blue = pixels.split(1, dim=1)
    safe = chroma.clamp(min=1e-8)
    sextant = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    n = torch.tensor([5.0, 3.0, 1.0], device=pixels.device).view(1, 3, 1, 1)
    k = (n + sextant + 6 * shift) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def _blur(pixels: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each square image by its own ``sigma`` (B,), separable: ``G x G^T`` with a matrix G an image.

    Batched products are faster on a CPU than grouped convolutions or sums of shifted images, and unlike convolutions
    they are not rounded to TF32 on a GPU by default.
    """
    matrix = _gaussian_matrix(sigma, pixels.shape[3])
    along_rows = torch.bmm(pixels.flatten(1, 2), matrix.mT).view_as(pixels)
    return (matrix[:, None] @ along_rows).clamp(max=1)  # weights sum to 1 but for rounding


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


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
