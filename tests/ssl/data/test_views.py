"""Augmented views: each operation against an independent reference."""

from __future__ import annotations

import colorsys
import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

import harness
from harness.cell import Views
from harness.ssl.data.views import BLUR_DRAWS, DRAWS, augment, columns, draw

NOTHING = Views(crop_min=1.0, flip=0.0, jitter=0.0, gray=0.0)


def images(count: int = 4, channels: int = 3, size: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator)


def draws(count: int = 4, **fixed: float) -> Tensor:
    """Draws under which nothing happens (square crops), but for those that are given; with blur's where it is given."""
    neutral = {"ratio": 0.5, "jitter": 0.99, "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.5}
    row = [{**neutral, **fixed}.get(name, 0.999) for name in DRAWS + BLUR_DRAWS * ("blur" in fixed)]
    return torch.tensor([row] * count)


def test_the_whole_area_is_the_image_itself() -> None:
    torch.testing.assert_close(augment(images(), draws(), NOTHING), images() / 255, rtol=0, atol=1e-5)


def test_flip_mirrors_columns() -> None:
    flipped = augment(images(), draws(), dataclasses.replace(NOTHING, flip=1.0))
    torch.testing.assert_close(flipped, images().flip(3) / 255, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("x", "y", "left", "top"), [(0.0, 0.0, 0, 0), (1.0, 0.0, 8, 0), (0.5, 1.0, 4, 8)])
def test_a_quarter_crop_is_torchvisions_resized_crop(x: float, y: float, left: int, top: int) -> None:
    views = dataclasses.replace(NOTHING, crop_min=0.25)
    cropped = augment(images(), draws(area=0.0, x=x, y=y), views)
    expected = reference.resized_crop(images() / 255, top, left, 8, 8, [16, 16], antialias=True)
    # Only pixels at the border of the crop may differ: torchvision cuts first, one resampling sees one pixel further.
    torch.testing.assert_close(cropped[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "draw", "expected"),
    [
        ("brightness", 1.0, lambda x: reference.adjust_brightness(x, 1.4)),
        ("brightness", 0.0, lambda x: reference.adjust_brightness(x, 0.6)),
        ("contrast", 1.0, lambda x: reference.adjust_contrast(x, 1.4)),
        ("saturation", 0.0, lambda x: reference.adjust_saturation(x, 0.6)),
        ("hue", 1.0, lambda x: reference.adjust_hue(x, 0.1)),
        ("hue", 0.0, lambda x: reference.adjust_hue(x, -0.1)),
    ],
)
def test_colour_jitter_is_torchvisions(name: str, draw: float, expected: object) -> None:
    jittered = augment(images(), draws(jitter=0.0, **{name: draw}), dataclasses.replace(NOTHING, jitter=0.5))
    assert callable(expected)
    torch.testing.assert_close(jittered, expected(images() / 255), rtol=0, atol=2e-3)


def test_hue_turns_as_in_colorsys() -> None:
    pixels = torch.tensor([200, 40, 90], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    turned = augment(pixels, draws(1, jitter=0.0, hue=1.0), dataclasses.replace(NOTHING, jitter=1.0))
    hue, saturation, value = colorsys.rgb_to_hsv(200 / 255, 40 / 255, 90 / 255)
    assert turned[0, :, 0, 0].tolist() == pytest.approx(
        colorsys.hsv_to_rgb((hue + 0.2) % 1, saturation, value), abs=1e-5
    )


def test_gray_leaves_one_luma_in_all_channels() -> None:
    views = dataclasses.replace(NOTHING, gray=1.0)
    gray = augment(images(), draws(gray=0.5), views)
    torch.testing.assert_close(gray, reference.rgb_to_grayscale(images() / 255, 3), rtol=0, atol=1e-3)


BLURRED = dataclasses.replace(NOTHING, blur=1.0)


@pytest.mark.parametrize(("size", "kernel"), [(8, 3), (32, 3), (96, 9), (224, 23)])
def test_blur_is_torchvisions_image_by_image(size: int, kernel: int) -> None:
    sigmas = [0.1, 0.3, 0.575, 1.05, 1.525, 2.0]
    drawn = torch.cat([draws(1, blur=0.5, sigma=(sigma - 0.1) / 1.9) for sigma in sigmas])
    sharp = augment(images(6, size=size), draws(6), NOTHING)
    expected = [reference.gaussian_blur(image, [kernel] * 2, [s] * 2) for image, s in zip(sharp, sigmas, strict=True)]
    blurred = augment(images(6, size=size), drawn, BLURRED)
    torch.testing.assert_close(blurred, torch.stack(expected), rtol=0, atol=3e-6)


def test_blur_comes_last() -> None:
    views = dataclasses.replace(NOTHING, jitter=0.5, gray=0.5, blur=1.0)
    fixed = {"jitter": 0.0, "brightness": 1.0, "gray": 0.0}
    sharp = augment(images(), draws(**fixed), dataclasses.replace(views, blur=0.0))
    blurred = augment(images(), draws(**fixed, blur=0.0, sigma=1.0), views)
    torch.testing.assert_close(blurred, reference.gaussian_blur(sharp, [3, 3], [2.0, 2.0]), rtol=0, atol=3e-6)


def test_images_that_are_not_blurred_stay_as_they_are_bit_by_bit() -> None:
    views = Views(blur=0.5)
    drawn = torch.rand(64, columns(views), generator=torch.Generator().manual_seed(4))
    made = augment(images(64), drawn, views)
    sharp = augment(images(64), drawn[:, : len(DRAWS)], dataclasses.replace(views, blur=0.0))
    spared = drawn[:, len(DRAWS)] >= 0.5
    assert 0 < int(spared.sum()) < 64
    assert torch.equal(made[spared], sharp[spared])
    assert (made[~spared] != sharp[~spared]).flatten(1).any(1).all()


def test_blur_draws_from_a_stream_of_its_own() -> None:
    without, with_blur = draw(3, 2, 8, Views()), draw(3, 2, 8, Views(blur=0.5))
    assert without.shape == (2, 8, columns(Views())) == (2, 8, len(DRAWS))
    assert with_blur.shape == (2, 8, columns(Views(blur=0.5))) == (2, 8, len(DRAWS) + 2)
    assert torch.equal(with_blur[..., : len(DRAWS)], without)
    assert torch.equal(with_blur[:, :4], draw(3, 2, 4, Views(blur=0.5)))
    assert len(set(with_blur.flatten().tolist())) == with_blur.numel()


def test_draws_and_views_are_pinned() -> None:
    # As they were before there was a blur: these numbers are behind every record.
    drawn = draw(3, 2, 4, Views())
    assert hashlib.sha256(drawn.numpy().tobytes()).hexdigest()[:16] == "f2bff69a93c654d3"
    made = augment(images().repeat(2, 1, 1, 1), drawn.flatten(0, 1), Views())
    # Not bit by bit: processors round differently.
    pixels = [0.1623609, 0.3399015, 0.6122797, 0.3986945, 0.3474085, 0.5419022, 0.6355578, 0.3824701]
    assert made[:, 1, 5, 7].tolist() == pytest.approx(pixels, abs=2e-6)
    assert float(made.double().mean()) == pytest.approx(0.51442184, abs=1e-7)


@pytest.mark.parametrize("preset", ["moco_v2", "simclr", "simclr_cifar"])
def test_presets_name_every_field(preset: str) -> None:
    # One that lacked a field would leave it to the data set.
    path = Path(harness.__file__).parent / "conf" / "views" / f"{preset}.yaml"
    declared = yaml.safe_load(path.read_text())
    assert dataclasses.asdict(Views(**declared)) == declared
    assert list(declared) == [field.name for field in dataclasses.fields(Views)]


def test_an_images_view_does_not_depend_on_its_batch() -> None:
    views = Views(crop_min=0.2, flip=0.5, jitter=0.5, gray=0.2, blur=0.5)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(4, columns(views), generator=generator)
    together = augment(images(), drawn, views)
    alone = torch.cat([augment(images()[i : i + 1], drawn[i : i + 1], views) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_views_stay_in_range(channels: int) -> None:
    views = Views(crop_min=0.08, flip=0.5, jitter=1.0, gray=0.5, blur=0.5)
    drawn = torch.rand(64, columns(views), generator=torch.Generator().manual_seed(1))
    made = augment(images(64, channels), drawn, views)
    assert made.shape == (64, channels, 16, 16)
    assert 0 <= float(made.min()) <= float(made.max()) <= 1


def test_crops_cover_the_declared_areas() -> None:
    # A ramp's range over a crop tells the crop's width; its mean over many draws is that of the width's law.
    ramp = (torch.arange(64) * 4).to(torch.uint8).view(1, 1, 1, 64).expand(2000, 1, 64, 64)
    drawn = torch.rand(2000, len(DRAWS), generator=torch.Generator().manual_seed(2))
    made = augment(ramp, drawn, dataclasses.replace(NOTHING, crop_min=0.2))
    width = (made.amax(3) - made.amin(3))[:, 0, 0] * 255 / 4 / 63
    area, ratio = torch.rand(2, 200_000, generator=torch.Generator().manual_seed(3))
    expected = ((0.2 + 0.8 * area) * torch.exp((2 * ratio - 1) * torch.log(torch.tensor(4 / 3)))).sqrt().clamp(max=1)
    assert float(width.mean()) == pytest.approx(float(expected.mean()), abs=0.01)
