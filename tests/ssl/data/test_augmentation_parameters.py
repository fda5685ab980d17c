"""What draws say: torchvision's boxes, orders, and what a recipe has of them."""

from __future__ import annotations

import harness.ssl  # mends torchvision's import

# isort: split
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torchvision.transforms import v2

import harness
from harness.cell import Views
from harness.ssl.data import augmentation_parameters
from harness.ssl.data.augmentation_parameters import (
    DRAW,
    DRAWS,
    FIELD,
    PARAMETERS,
    RETRY_DRAWS,
    boxes,
    columns,
    draw,
    resolve,
)
from tests.support.draws import kolmogorov, largest_gap, neutral_draws, uniform_draws


def test_boxes_of_a_batch_are_those_of_its_images() -> None:
    # A decoder knows an image's size when it opens it.
    views, heights, widths = Views(crop_min=0.2), torch.tensor([375, 500, 96, 20]), torch.tensor([500, 333, 96, 300])
    drawn = uniform_draws(4, views)
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
    ours = boxes(uniform_draws(count, views), views, height, width)
    for name in ("top", "left", "height", "width"):
        assert largest_gap(getattr(ours, name).numpy(), np.array([box[name] for box in theirs])) < kolmogorov(count)


def test_a_box_that_never_fits_is_the_largest_in_the_middle() -> None:
    never = dict.fromkeys(("area", "ratio", *RETRY_DRAWS), 0.999)
    for height, width, expected in [(32, 32, (0, 0, 32, 32)), (30, 100, (0, 30, 30, 40)), (101, 30, (30, 0, 40, 30))]:
        box = boxes(neutral_draws(1, **never), Views(), height, width)
        assert tuple(int(field) for field in box[:4]) == expected


def test_the_first_try_that_fits_counts() -> None:
    box = boxes(
        neutral_draws(1, area=0.999, ratio=0.999, **{"area 2": 0.0, "ratio 2": 0.5}), Views(crop_min=0.25), 32, 32
    )
    assert (int(box.height), int(box.width)) == (16, 16)


def test_orders_are_equally_frequent() -> None:
    orders = (draw(0, 0, 4800, Views())[0, :, DRAW["order"]] * 24).long()
    counts = orders.bincount(minlength=24)
    # Chi-squared with 23 degrees of freedom: one in 1,000 exceeds 49.7.
    assert float(((counts - 200.0) ** 2 / 200).sum()) < 49.7


def test_blur_draws_from_a_stream_of_its_own() -> None:
    without, with_blur = draw(3, 2, 8, Views()), draw(3, 2, 8, Views(blur=0.5))
    assert without.shape == (2, 8, columns(Views())) == (2, 8, len(DRAWS) + 18 + 1)
    assert with_blur.shape == (2, 8, columns(Views(blur=0.5))) == (2, 8, columns(Views()) + 2)
    assert torch.equal(with_blur[..., :-2], without)
    assert torch.equal(with_blur[:, :4], draw(3, 2, 4, Views(blur=0.5)))
    # Of 512 numbers with 24 bits, now and then two are the same by chance; of two columns, never.
    assert len({tuple(column.tolist()) for column in with_blur.flatten(0, 1).unbind(1)}) == columns(Views(blur=0.5))


@pytest.mark.parametrize("preset", ["moco_v2", "simclr", "simclr_cifar"])
def test_presets_name_every_field(preset: str) -> None:
    # One that lacked a field would leave it to the data set.
    path = Path(harness.__file__).parent / "conf" / "views" / f"{preset}.yaml"
    declared = yaml.safe_load(path.read_text())
    assert dataclasses.asdict(Views(**declared)) == declared
    assert list(declared) == [field.name for field in dataclasses.fields(Views)]


def test_recipes_of_many_images_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    views, generator = Views(blur=0.5), torch.Generator().manual_seed(0)
    heights, widths = torch.randint(20, 600, (2, 50), generator=generator)
    drawn = uniform_draws(100, views).unflatten(0, (2, 50))
    whole = resolve(drawn, views, 3, heights, widths)
    assert whole.shape == (2, 50, len(PARAMETERS))
    monkeypatch.setattr(augmentation_parameters, "CHUNK", 7)
    assert torch.equal(resolve(drawn, views, 3, heights, widths), whole)
    alone = [resolve(drawn[:, i : i + 1], views, 3, int(heights[i]), int(widths[i])) for i in range(50)]
    assert torch.equal(torch.cat(alone, 1), whole)
    with_rows = boxes(drawn[1], views, heights, widths)
    assert torch.equal(whole[1, :, : len(with_rows)], torch.stack([field.float() for field in with_rows], 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_not_to_happen_has_no_weight(channels: int) -> None:
    views = Views(crop_min=0.2, flip=0.0, jitter=0.0, gray=0.0, blur=0.0)
    recipe = resolve(uniform_draws(50, views)[None], views, channels, 32, 32)[0]
    for name in ("mirrored", "weight 0", "weight 1", "weight 2", "hue_shift", "gray", "blur"):
        assert not recipe[:, FIELD[name]].any(), name
    assert (recipe[:, FIELD["before"]] == -1).all()
    jittered = resolve(neutral_draws(1, jitter=0.0, brightness=1.0)[None], Views(), channels, 32, 32)[0, 0]
    weights = jittered[[FIELD[f"weight {blend}"] for blend in range(3)]]
    assert int((weights.abs() > 1e-6).sum()) == 1
