"""Augmented views as batched tensor code on the device, with parameters drawn per sample.

SimCLR's augmentation (arXiv 2002.05709, appendix A): random resized crop, flip, colour jitter, grayscale, Gaussian
blur. Crop and flip are one bilinear resampling. A crop is only ever enlarged to the image's own size, so antialiasing,
which acts when shrinking, has nothing to do. The jitter's four operations run in a fixed order. Images of one channel
have no saturation, hue or grayscale.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, one_hot

from harness.cell import Views
from harness.ssl.streams import stream

#: Uniform draws of one view, in this order.
DRAWS = ("area", "ratio", "x", "y", "flip", "jitter", "brightness", "contrast", "saturation", "hue", "gray")

#: Further draws of a view that may be blurred; they have a stream of their own, so that blur leaves the others alone.
BLUR_DRAWS = ("blur", "sigma")

ASPECT = math.log(4 / 3)
JITTER_PROBABILITY = 0.8
LUMA = (0.299, 0.587, 0.114)
SIGMA = (0.1, 2.0)  # pixels


def columns(views: Views) -> int:
    """How many draws a view takes."""
    return len(_names(views))


def _names(views: Views) -> tuple[str, ...]:
    return DRAWS + BLUR_DRAWS if views.blur > 0 else DRAWS


def draw(seed: int, epoch: int, samples: int, views: Views) -> Tensor:
    """The draws of all samples' two views in an epoch: (2, samples, columns(views)), uniform in [0, 1)."""

    def uniform(purpose: str, names: tuple[str, ...]) -> Tensor:
        streams = [stream(seed, purpose, epoch, view) for view in (0, 1)]
        return torch.stack([torch.from_numpy(own.random((samples, len(names)), dtype="float32")) for own in streams])

    drawn = uniform("views", DRAWS)
    return torch.cat([drawn, uniform("blur", BLUR_DRAWS)], 2) if views.blur > 0 else drawn


def augment(images: Tensor, draws: Tensor, views: Views) -> Tensor:
    """One augmented view of each image.

    Args:
        images: uint8 (B, C, H, W); square where they may be blurred.
        draws: (B, columns(views)), one row an image.

    Returns:
        float32 (B, C, H, W) in [0, 1].
    """
    u = dict(zip(_names(views), draws.unbind(1), strict=True))
    pixels = _crop_and_flip(images.float() / 255, u, views)
    if views.jitter > 0:
        pixels = torch.where(_column(u["jitter"] < JITTER_PROBABILITY), _jitter(pixels, u, views.jitter), pixels)
    if views.gray > 0 and pixels.shape[1] == 3:
        pixels = torch.where(_column(u["gray"] < views.gray), _gray(pixels), pixels)
    if views.blur > 0:
        sigma = SIGMA[0] + (SIGMA[1] - SIGMA[0]) * u["sigma"]
        pixels = torch.where(_column(u["blur"] < views.blur), _blur(pixels, sigma), pixels)
    return pixels


def _crop_and_flip(pixels: Tensor, u: dict[str, Tensor], views: Views) -> Tensor:
    """Crop of area in [crop_min, 1] and log-uniform aspect in [3/4, 4/3], back at the image's size."""
    area = views.crop_min + (1 - views.crop_min) * u["area"]
    aspect = torch.exp((2 * u["ratio"] - 1) * ASPECT)
    # torchvision draws again where the box leaves the image; a counter-based draw is clamped instead.
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    centre_x, centre_y = (2 * u["x"] - 1) * (1 - width), (2 * u["y"] - 1) * (1 - height)
    mirror = torch.where(u["flip"] < views.flip, -1.0, 1.0)
    zero = torch.zeros_like(width)
    rows = torch.stack([torch.stack([width * mirror, zero, centre_x], 1), torch.stack([zero, height, centre_y], 1)], 1)
    grid = affine_grid(rows, list(pixels.shape), align_corners=False)
    return grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _jitter(pixels: Tensor, u: dict[str, Tensor], strength: float) -> Tensor:
    """Brightness, contrast, saturation by 1 +- .8 strength, hue by +- .2 strength of a turn; clamped after each."""

    def factor(name: str) -> Tensor:
        low = max(0.0, 1 - 0.8 * strength)
        return _column(low + (1 + 0.8 * strength - low) * u[name])

    pixels = (pixels * factor("brightness")).clamp(0, 1)
    pixels = torch.lerp(_gray(pixels).mean((1, 2, 3), keepdim=True), pixels, factor("contrast")).clamp(0, 1)
    if pixels.shape[1] == 1:
        return pixels
    pixels = torch.lerp(_gray(pixels), pixels, factor("saturation")).clamp(0, 1)
    return _shift_hue(pixels, _column((2 * u["hue"] - 1) * 0.2 * strength))


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
