"""Augmented views: each operation against an independent reference."""

from __future__ import annotations

import harness.ssl  # mends torchvision's import

# isort: split
import colorsys
import dataclasses
import hashlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

import harness
from harness.cell import Views
from harness.ssl.data import views as module
from harness.ssl.data.views import (
    BLUR_DRAWS,
    DRAWS,
    ORDER_DRAWS,
    RETRY_DRAWS,
    augment,
    boxes,
    columns,
    crop,
    draw,
    recolour,
)

NOTHING = Views(crop_min=1.0, flip=0.0, jitter=0.0, gray=0.0)


def images(count: int = 4, channels: int = 3, size: int = 16, width: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, size, width or size), dtype=torch.uint8, generator=generator)


def draws(count: int = 4, /, **fixed: float) -> Tensor:
    """Draws under which nothing happens (square crops), but for those that are given; with blur's where it is given."""
    neutral = {"ratio": 0.5, "jitter": 0.99, "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.5}
    names = DRAWS + RETRY_DRAWS + ORDER_DRAWS + BLUR_DRAWS * ("blur" in fixed)
    return torch.tensor([[{**neutral, **fixed}.get(name, 0.999) for name in names]] * count)


def uniform(count: int, views: Views, seed: int = 0) -> Tensor:
    return torch.rand(count, columns(views), generator=torch.Generator().manual_seed(seed))


def test_the_whole_area_is_the_image_itself() -> None:
    torch.testing.assert_close(augment(images(), draws(), NOTHING), images() / 255, rtol=0, atol=1e-5)


def test_flip_mirrors_columns() -> None:
    flipped = augment(images(), draws(), dataclasses.replace(NOTHING, flip=1.0))
    torch.testing.assert_close(flipped, images().flip(3) / 255, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width", "side"), [(32, 32, 32), (40, 56, 16), (56, 40, 32), (24, 24, 64)])
def test_crops_are_torchvisions_resized_crops(height: int, width: int, side: int) -> None:
    views = dataclasses.replace(NOTHING, crop_min=0.08, flip=0.5)
    originals = images(64, size=height, width=width)
    drawn = uniform(64, views)
    expected = [
        reference.resized_crop(image / 255, *map(int, box), [side, side], antialias=True)
        for image, *box in zip(originals, *boxes(drawn, views, height, width)[:4], strict=True)
    ]
    flipped = boxes(drawn, views, height, width).flipped
    assert 0 < int(flipped.sum()) < 64
    mirrored = torch.where(flipped[:, None, None, None], torch.stack(expected).flip(3), torch.stack(expected))
    torch.testing.assert_close(crop(originals, drawn, views, side), mirrored, rtol=0, atol=1e-5)


def test_boxes_of_a_batch_are_those_of_its_images() -> None:
    # A decoder knows an image's size when it opens it.
    views, heights, widths = Views(crop_min=0.2), torch.tensor([375, 500, 96, 20]), torch.tensor([500, 333, 96, 300])
    drawn = uniform(4, views)
    together = boxes(drawn, views, heights, widths)
    for row in range(4):
        alone = boxes(drawn[row : row + 1], views, int(heights[row]), int(widths[row]))
        assert [field[row].item() for field in together] == [field.item() for field in alone]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (375, 500), (500, 333), (30, 100)])
def test_boxes_are_distributed_as_torchvisions(height: int, width: int) -> None:
    count, views = 3000, Views(crop_min=0.2)
    transform = v2.RandomResizedCrop(32, scale=(0.2, 1))
    torch.manual_seed(0)
    theirs = [transform.make_params([torch.empty(3, height, width)]) for _ in range(count)]
    ours = boxes(uniform(count, views), views, height, width)
    for name in ("top", "left", "height", "width"):
        assert largest_gap(getattr(ours, name).numpy(), np.array([box[name] for box in theirs])) < kolmogorov(count)


def largest_gap(first: np.ndarray, second: np.ndarray) -> float:
    """Kolmogorov and Smirnov's distance between two samples' distributions."""
    at = np.unique(np.concatenate([first, second]))
    shares = [np.searchsorted(np.sort(sample), at, side="right") / len(sample) for sample in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def kolmogorov(count: int) -> float:
    """The distance of two samples of ``count`` that one pair in 1,000 exceeds."""
    return math.sqrt(-math.log(0.001 / 2) / count)


def test_a_box_that_never_fits_is_the_largest_in_the_middle() -> None:
    never = dict.fromkeys(("area", "ratio", *RETRY_DRAWS), 0.999)
    for height, width, expected in [(32, 32, (0, 0, 32, 32)), (30, 100, (0, 30, 30, 40)), (101, 30, (30, 0, 40, 30))]:
        box = boxes(draws(1, **never), Views(), height, width)
        assert tuple(int(field) for field in box[:4]) == expected


def test_the_first_try_that_fits_counts() -> None:
    box = boxes(draws(1, area=0.999, ratio=0.999, **{"area 2": 0.0, "ratio 2": 0.5}), Views(crop_min=0.25), 32, 32)
    assert (int(box.height), int(box.width)) == (16, 16)


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
    torch.testing.assert_close(jittered, expected(images() / 255), rtol=0, atol=1e-5)


ADJUST = (
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_torchvisions_in_each_of_the_24_orders(strength: float, channels: int) -> None:
    # Strong factors, so that values are cut at 0 and 1 and every order differs.
    factors = [1 + 0.8 * strength * 0.9, 1 + 0.8 * strength * 0.8, 1 - 0.8 * strength * 0.7, 0.2 * strength * 0.6]
    drawn = {"jitter": 0.0, "brightness": 0.95, "contrast": 0.9, "saturation": 0.15, "hue": 0.8}
    views, seen = dataclasses.replace(NOTHING, jitter=strength), []
    for index, order in enumerate(itertools.permutations(range(4))):
        expected = images(channels=channels) / 255
        for operation in order:
            expected = ADJUST[operation](expected, factors[operation])
        seen.append(augment(images(channels=channels), draws(order=(index + 0.5) / 24, **drawn), views))
        torch.testing.assert_close(seen[-1], expected, rtol=0, atol=1e-5)
    distinct = {tuple(view.flatten().mul(1e4).round().tolist()) for view in seen}
    assert len(distinct) == (24 if channels == 3 else 2)


def natural(count: int) -> Tensor:
    """``count`` times a 32x32 cut from photographs, uint8 (n, 3, 32, 32)."""
    photographs = [torch.from_numpy(photograph.copy()).permute(2, 0, 1) for photograph in load_sample_images().images]
    cuts = [photographs[i][:, y : y + 256, x : x + 256] for i, y, x in [(0, 100, 50), (0, 150, 350), (1, 80, 150)]]
    return torch.stack([reference.resize(cut, [32, 32]) for cut in cuts]).repeat_interleave(count, 0)


def summaries(pixels: Tensor) -> dict[str, np.ndarray]:
    """Numbers of each view that its crop, its colours and their order move."""
    red, green, blue = pixels.unbind(1)
    means = pixels.mean((2, 3))
    chroma = pixels.amax(1) - pixels.amin(1)
    moments = {
        "mean": means.mean(1),
        "deviation": pixels.std((1, 2, 3)),
        "chroma": chroma.mean((1, 2)),
        "red - green": (red - green).mean((1, 2)),
        "green - blue": (green - blue).mean((1, 2)),
        "black": (pixels <= 1e-6).float().mean((1, 2, 3)),
        "white": (pixels >= 1 - 1e-6).float().mean((1, 2, 3)),
        "left - right": (pixels[..., :16].mean((1, 2, 3)) - pixels[..., 16:].mean((1, 2, 3))),
        "edges": pixels.diff(dim=3).abs().mean((1, 2, 3)),
    }
    return {name: value.double().round(decimals=5).numpy() for name, value in moments.items()}


COUNT = 500


def torchvisions_views() -> Tensor:
    """Of each of three images ``COUNT`` views by torchvision's own pipeline, one by one."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(32, scale=(0.2, 1), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
        ]
    )
    torch.manual_seed(1)
    return torch.stack([transform(image) for image in natural(COUNT) / 255])


def gaps(ours: Tensor, theirs: Tensor) -> list[tuple[str, float]]:
    """Of each summary and image, how far our views' distribution is from torchvision's."""
    return [
        (name, largest_gap(summaries(mine)[name], value))
        for mine, other in zip(ours.split(COUNT), theirs.split(COUNT), strict=True)
        for name, value in summaries(other).items()
    ]


def test_views_are_distributed_as_torchvisions() -> None:
    views, originals, theirs = Views(), natural(COUNT), torchvisions_views()
    drawn = uniform(len(originals), views, seed=1)
    far = [gap for gap in gaps(augment(originals, drawn, views), theirs) if gap[1] > kolmogorov(COUNT)]
    assert not far
    # The comparison can fail: with one kind of draw held fast the views are too far.
    names = DRAWS + RETRY_DRAWS + ORDER_DRAWS
    for name, value in [("hue", 0.5), ("area", 0.5), ("gray", 0.9)]:
        spoiled = drawn.clone()
        spoiled[:, names.index(name)] = value
        assert max(gap for _, gap in gaps(augment(originals, spoiled, views), theirs)) > kolmogorov(COUNT), name


def test_orders_are_equally_frequent() -> None:
    orders = (draw(0, 0, 4800, Views())[0, :, (DRAWS + RETRY_DRAWS + ORDER_DRAWS).index("order")] * 24).long()
    counts = orders.bincount(minlength=24)
    # Chi-squared with 23 degrees of freedom: one in 1,000 exceeds 49.7.
    assert float(((counts - 200.0) ** 2 / 200).sum()) < 49.7


@pytest.mark.parametrize("channels", [1, 3])
def test_views_do_not_depend_on_parts_or_threads(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    views = Views(blur=0.5)
    originals, drawn = images(128, channels, size=32), uniform(128, views)
    whole = augment(originals, drawn, views)
    pieces = [
        augment(*both, views) for both in zip(originals.split([1, 50, 77]), drawn.split([1, 50, 77]), strict=True)
    ]
    assert torch.equal(torch.cat(pieces), whole)
    monkeypatch.setattr(module, "PART", 2**15)
    assert torch.equal(augment(originals, drawn, views), whole)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert torch.equal(augment(originals, drawn, views), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_accelerator_needs_no_look_at_the_draws(channels: int) -> None:
    # On the meta device there are no numbers: a shape that depended on them, or a copy to the host, would be an error.
    views = Views(blur=0.5)
    made = augment(images(8, channels).to("meta"), uniform(8, views).to("meta"), views)
    assert made.shape == (8, channels, 16, 16)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_steps_for_all_images_give_the_same_views(channels: int) -> None:
    # What an accelerator does, done on the CPU.
    views, originals = Views(gray=0.0), images(256, channels)
    drawn = uniform(256, views)
    whole = crop(originals, drawn, views, 16)
    jitter = module._jitter(drawn, views.jitter, channels)
    module._jitter_(whole.flatten(2), jitter, range(jitter.weight.shape[1]))
    torch.testing.assert_close(whole, augment(originals, drawn, views), rtol=0, atol=2e-6)


def test_colours_come_after_the_crop() -> None:
    views = Views(blur=0.5)
    drawn = uniform(8, views)
    apart = recolour(crop(images(8), drawn, views, 16), drawn, views)
    assert torch.equal(apart, augment(images(8), drawn, views))


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
    torch.testing.assert_close(gray, reference.rgb_to_grayscale(images() / 255, 3), rtol=0, atol=1e-6)


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
    drawn = uniform(64, views, seed=4)
    made = augment(images(64), drawn, views)
    sharp = augment(images(64), drawn[:, :-2], dataclasses.replace(views, blur=0.0))
    spared = drawn[:, -2] >= 0.5
    assert 0 < int(spared.sum()) < 64
    assert torch.equal(made[spared], sharp[spared])
    assert (made[~spared] != sharp[~spared]).flatten(1).any(1).all()


def test_blur_draws_from_a_stream_of_its_own() -> None:
    without, with_blur = draw(3, 2, 8, Views()), draw(3, 2, 8, Views(blur=0.5))
    assert without.shape == (2, 8, columns(Views())) == (2, 8, len(DRAWS) + 18 + 1)
    assert with_blur.shape == (2, 8, columns(Views(blur=0.5))) == (2, 8, columns(Views()) + 2)
    assert torch.equal(with_blur[..., :-2], without)
    assert torch.equal(with_blur[:, :4], draw(3, 2, 4, Views(blur=0.5)))
    # Of 512 numbers with 24 bits, now and then two are the same by chance; of two columns, never.
    assert len({tuple(column.tolist()) for column in with_blur.flatten(0, 1).unbind(1)}) == columns(Views(blur=0.5))


def test_draws_and_views_are_pinned() -> None:
    # The first draws are as they were before there were blur, tries and order: these numbers are behind every record.
    drawn = draw(3, 2, 4, Views())
    first = drawn[..., : len(DRAWS)].contiguous()
    assert hashlib.sha256(first.numpy().tobytes()).hexdigest()[:16] == "f2bff69a93c654d3"
    assert hashlib.sha256(drawn.numpy().tobytes()).hexdigest()[:16] == "f9c8c01a2b9d92b3"
    made = augment(images().repeat(2, 1, 1, 1), drawn.flatten(0, 1), Views())
    # Not bit by bit: processors round differently.
    pixels = [0.2102329, 0.3633885, 0.6209792, 0.4114963, 0.2993438, 0.6546569, 0.5978981, 0.7935253]
    assert made[:, 1, 5, 7].tolist() == pytest.approx(pixels, abs=2e-6)
    assert float(made.double().mean()) == pytest.approx(0.51934454, abs=1e-7)


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
