"""The augmentation parameters of each view, drawn for each sample and computed once an epoch, on the host.

So every device cuts the same pixels, and a step only does what the parameters say. It is SimCLR's augmentation (arXiv
2002.05709, appendix A): random resized crop, flip, colour jitter, grayscale, Gaussian blur. Images of one channel have
no saturation, hue or grayscale.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from harness.cell import Views
from harness.random_streams import stream

#: Uniform draws of one view, in this order.
DRAWS = ("area", "ratio", "x", "y", "flip", "jitter", "brightness", "contrast", "saturation", "hue", "gray")

#: torchvision draws area and aspect again, at the most nine times, until the box lies inside the image.
TRIES = 10
RETRY_DRAWS = tuple(f"{name} {again}" for again in range(2, TRIES + 1) for name in ("area", "ratio"))

#: The draw of the order of the jitter's operations.
ORDER_DRAWS = ("order",)

BLUR_DRAWS = ("blur", "sigma")

#: Draws that came later have streams of their own, so that they leave the others alone.
STREAMS = {"views": DRAWS, "boxes": RETRY_DRAWS, "order": ORDER_DRAWS, "blur": BLUR_DRAWS}
DRAW = {name: column for column, name in enumerate(itertools.chain(*STREAMS.values()))}

ASPECT = 4 / 3  # the largest; the smallest is its inverse
JITTER_PROBABILITY = 0.8
SIGMA = (0.1, 2.0)  # pixels
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
ORDERS = tuple(itertools.permutations((BRIGHTNESS, CONTRAST, SATURATION, HUE)))

#: Blends of the jitter: brightness, contrast and saturation.
BLENDS = 3

#: The parameters of one view. The box is in pixels; ``mirrored``, ``gray`` and ``blur`` are 0 or 1. ``before``: how
#: many blends come before hue (all of them if there is one channel); -1 without jitter. ``weight``: 1 - factor of each
#: blend in its order, 0 where nothing is blended; ``operation``: which blend it is. ``hue_shift``: in sixths of a turn.
#: ``sigma``: of the blur, in pixels.
PARAMETERS = (
    *("top", "left", "height", "width", "mirrored", "before"),
    *(f"{what} {blend}" for what in ("weight", "operation") for blend in range(BLENDS)),
    *("hue_shift", "gray", "blur", "sigma"),
)
FIELD = {name: column for column, name in enumerate(PARAMETERS)}

#: Samples whose parameters are computed at a time: ten tries of each, in doubles, which stay in a CPU's caches, and do
#: not stay in memory afterwards.
CHUNK = 2**12


class Boxes(NamedTuple):
    """One crop an image, each field of shape (...): int64 pixels, and whether it is mirrored."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    mirrored: Tensor


def columns(views: Views) -> int:
    """Return how many draws a view takes."""
    return sum(map(len, _streams(views).values()))


def _streams(views: Views) -> dict[str, tuple[str, ...]]:
    return {purpose: names for purpose, names in STREAMS.items() if purpose != "blur" or views.blur > 0}


def draw(seed: int, epoch: int, samples: int, views: Views) -> Tensor:
    """Return the draws of all samples' two views in an epoch: (2, samples, columns(views)), uniform in [0, 1)."""

    def uniform(purpose: str, names: tuple[str, ...]) -> Tensor:
        streams = [stream(seed, purpose, epoch, view) for view in (0, 1)]
        return torch.stack(
            [torch.from_numpy(numbers.random((samples, len(names)), dtype="float32")) for numbers in streams]
        )

    return torch.cat([uniform(purpose, names) for purpose, names in _streams(views).items()], 2)


def resolve(draws: Tensor, views: Views, channels: int, heights: Tensor | int, widths: Tensor | int) -> Tensor:
    """Return the augmentation parameters that these draws give: float32 (v, n, len(PARAMETERS)).

    Args:
        draws: (v, n, columns(views)).
        channels: of the images.
        heights, widths: of the images in pixels, (n,) or one for all.
    """
    sizes = [torch.as_tensor(size).expand(draws.shape[1]).split(CHUNK) for size in (heights, widths)]
    chunks = zip(draws.split(CHUNK, 1), *sizes, strict=True)
    return torch.cat([_resolve(chunk, views, channels, *size) for chunk, *size in chunks], 1)


def _resolve(draws: Tensor, views: Views, channels: int, heights: Tensor, widths: Tensor) -> Tensor:
    gray = (_column(draws, "gray") < views.gray) & (channels == 3)
    blur, sigma = torch.zeros_like(gray), torch.ones_like(_column(draws, "gray"))
    if views.blur > 0:
        blur, sigma = _column(draws, "blur") < views.blur, SIGMA[0] + (SIGMA[1] - SIGMA[0]) * _column(draws, "sigma")
    fields = [*boxes(draws, views, heights, widths), *_jitter(draws, views, channels), gray, blur, sigma]
    return torch.stack([field.float() for field in fields], 2)


def boxes(draws: Tensor, views: Views, heights: Tensor | int, widths: Tensor | int) -> Boxes:
    """Return the crops of images of these sizes: whole pixels, drawn as torchvision's RandomResizedCrop draws them.

    The area is uniform in [crop_min, 1] of the image's, the aspect (width : height, of pixels) log-uniform in
    [3/4, 4/3]; the first of ten tries that lies inside the image counts. Fractions of pixels would cost the same; whole
    ones are the published recipe, and any decoder can cut them out before it resizes.

    Args:
        draws: (..., columns(views)).
        heights, widths: of the images in pixels, that broadcast to (...).
    """
    rows, columns_ = torch.as_tensor(heights), torch.as_tensor(widths)
    first, retries = (draws[..., DRAW[names[0]] :][..., : len(names)] for names in (DRAWS[:2], RETRY_DRAWS))
    areas, ratios = torch.cat([first, retries], -1).double().unflatten(-1, (TRIES, 2)).unbind(-1)
    area = (views.crop_min + (1 - views.crop_min) * areas) * (rows * columns_)[..., None]
    area, aspect = area.sqrt_(), torch.exp((ratios - 0.5) * math.log(ASPECT))  # both as square roots
    height, width = (area / aspect).round(), (area * aspect).round()
    fits = (height > 0) & (height <= rows[..., None]) & (width > 0) & (width <= columns_[..., None])
    inside, chosen = fits.max(-1, keepdim=True)
    # If none fits: the largest crop of an allowed aspect, in the middle.
    middle = ~inside[..., 0]
    height = torch.where(middle, torch.minimum(rows, (columns_ * ASPECT).round()), height.gather(-1, chosen)[..., 0])
    width = torch.where(middle, torch.minimum(columns_, (rows * ASPECT).round()), width.gather(-1, chosen)[..., 0])
    top = torch.where(middle, (rows - height) / 2, _column(draws, "y").double() * (rows - height + 1)).floor()
    left = torch.where(middle, (columns_ - width) / 2, _column(draws, "x").double() * (columns_ - width + 1)).floor()
    return Boxes(top.long(), left.long(), height.long(), width.long(), _column(draws, "flip") < views.flip)


def _jitter(draws: Tensor, views: Views, channels: int) -> list[Tensor]:
    """Return the jitter's parameters: brightness, contrast and saturation by 1 +- .8 strength, hue by +- .2 strength of
    a turn, in the drawn order."""
    low, high = 1 - 0.8 * views.jitter, 1 + 0.8 * views.jitter
    factors = low + (high - low) * draws[..., DRAW["brightness"] : DRAW["saturation"] + 1]
    jittered = (_column(draws, "jitter") < JITTER_PROBABILITY) & (views.jitter > 0)
    blends, before = _orders(channels)
    order = (_column(draws, "order") * len(ORDERS)).long()
    operations = blends[order]
    weights = pad(1 - factors, (0, HUE - SATURATION)).gather(-1, operations) * jittered[..., None]
    hue_shift = 6 * 0.2 * views.jitter * (2 * _column(draws, "hue") - 1) * jittered
    return [torch.where(jittered, before[order], -1), *weights.unbind(-1), *operations.unbind(-1), hue_shift]


def _orders(channels: int) -> tuple[Tensor, Tensor]:
    """Return the blends of each order (24, BLENDS), filled up with HUE if there are fewer, and how many of them come
    before hue (24,)."""
    if channels == 1:
        blends = [[blend for blend in order if blend in (BRIGHTNESS, CONTRAST)] for order in ORDERS]
        return torch.tensor([[*both, HUE] for both in blends]), torch.full((len(ORDERS),), 2)
    blends = [[blend for blend in order if blend != HUE] for order in ORDERS]
    return torch.tensor(blends), torch.tensor([order.index(HUE) for order in ORDERS])


def _column(draws: Tensor, name: str) -> Tensor:
    return draws[..., DRAW[name]]
