"""Encoders and their initial weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from harness.catalog.backbones import BACKBONES, ImageSides
from harness.catalog.methods import METHODS
from harness.catalog.parameters import filled
from harness.cell import Backbone, Cell, Dataset, Head, Method
from harness.ssl import methods, models
from harness.ssl.distributed import World
from harness.ssl.models.backbones.base import Encoder, as_built
from harness.ssl.models.backbones.convnet import ConvNet
from harness.ssl.models.backbones.resnet import ResNet
from harness.ssl.models.initial_weights import initialize
from harness.ssl.models.projector import projector


@pytest.mark.e2e
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_width_64_is_torchvisions_resnet(name: str, stem: str) -> None:
    import torchvision

    ours, theirs = ResNet(name, 64, stem, 3), torchvision.models.get_model(name)
    if stem == "cifar":
        theirs.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        theirs.maxpool = torch.nn.Identity()
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def test_features_have_the_announced_size() -> None:
    for encoder in (ResNet("resnet18", 4, "cifar", 1), ResNet("resnet50", 4, "imagenet", 1), ConvNet(4, 1)):
        assert encoder(torch.randn(2, 1, 28, 28)).shape == (2, encoder.features)


def test_initial_weights_depend_on_seed_and_name_only() -> None:
    def cell(seed: int, dim: int) -> Cell:
        return Cell(backbone=Backbone("convnet", 4), head=Head(8, dim), seed=seed)

    torch.manual_seed(1)
    first = models.build(cell(0, 8), 1).state_dict()
    torch.manual_seed(2)
    other_head, other_seed = models.build(cell(0, 16), 1).state_dict(), models.build(cell(1, 8), 1).state_dict()
    for name in (name for name in first if name.startswith("encoder.") and name.endswith("0.weight")):
        assert torch.equal(first[name], other_head[name])
        assert not torch.equal(first[name], other_seed[name])
    assert torch.equal(first["projector.0.weight"], other_head["projector.0.weight"])


def usual(sides: ImageSides) -> int:
    """A side of about 64 pixels that the stem takes."""
    return max(side for side in range(max(sides.smallest, 64) + 1) if side in sides)


@pytest.mark.parametrize("name", BACKBONES)
def test_all_initial_tensors_of_a_backbone_come_from_the_cells_streams(name: str) -> None:
    for stem, sides in BACKBONES[name].sides.items():
        cell = Cell(backbone=Backbone(name, 4, stem), dataset=Dataset(image_size=usual(sides)), head=Head(8, 4))
        assert_no_global_draws(lambda: models.build(cell, 3))  # noqa: B023


@pytest.mark.parametrize("name", BACKBONES)
def test_no_backbone_draws_random_numbers_in_training(name: str) -> None:
    for stem, sides in BACKBONES[name].sides.items():
        size = usual(sides)
        cell = Cell(backbone=Backbone(name, 4, stem), dataset=Dataset(image_size=size), head=Head(8, 4))
        network = models.build(cell, 3).train()
        before = torch.get_rng_state()
        network.encoder(torch.zeros(2, 3, size, size))
        assert torch.equal(torch.get_rng_state(), before), "Dropout and its like are refused when a cell trains"


@pytest.mark.parametrize("name", METHODS)
def test_all_initial_tensors_of_a_method_come_from_the_cells_streams(name: str) -> None:
    method = filled(Method(name), METHODS[name].parameters)
    cell = Cell(method=method, backbone=Backbone("convnet", 4), head=Head(8, 4))
    assert_no_global_draws(lambda: methods.build(cell, models.build(cell, 1), 24, World()))


def assert_no_global_draws(build: Callable[[], nn.Module]) -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(build().state_dict())
    differing = [name for name, value in states[0].items() if not torch.equal(value, states[1][name])]
    assert not differing


class Embedded(Encoder):
    """A linear layer behind a position embedding and a fixed table: two tensors that no layer's rule draws."""

    features = 3

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(2, 3))
        self.register_buffer("table", torch.arange(3.0))
        self.out = nn.Linear(3, 3)


def test_a_tensor_that_nothing_draws_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^2 tensors would come from .*: encoder\.position, encoder\.table; "):
        initialize(nn.ModuleDict({"encoder": Embedded()}), 0)


def test_a_backbone_says_how_its_own_tensors_are_drawn() -> None:
    def normal(tensor: Tensor, generator: torch.Generator) -> None:
        nn.init.normal_(tensor, std=0.02, generator=generator)

    class Drawn(Embedded):
        initializers = {"pos*": normal, "table": as_built}  # noqa: RUF012

    def built(seed: int) -> Encoder:
        encoder = Drawn()
        initialize(encoder, seed)
        return encoder

    first, again, other = built(0), built(0), built(1)
    assert torch.equal(first.position, again.position)
    assert not torch.equal(first.position, other.position)
    assert torch.equal(first.table, torch.arange(3.0))
    Drawn.initializers = {**Drawn.initializers, "positoin": normal}
    with pytest.raises(ValueError, match="no tensor 'positoin'"):
        built(0)


def test_initial_weights_are_pinned() -> None:
    # They are behind every record.
    state = models.build(Cell(backbone=Backbone("convnet", 4), head=Head(8, 4)), 1).state_dict()
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.values())).hexdigest()
    assert digest[:12] == "2647c17d36a8"


@pytest.mark.parametrize(
    ("layers", "norm", "expected"),
    [
        (2, "hidden", ["Linear", "BatchNorm1d", "ReLU", "Linear"]),
        (2, "none", ["Linear", "ReLU", "Linear"]),
        (2, "all", ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]),
        (3, "hidden", ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]),
    ],
)
def test_projectors_of_the_papers(layers: int, norm: str, expected: list[str]) -> None:
    built = projector(16, Head(8, 4, layers, norm))
    assert [type(layer).__name__ for layer in built] == expected
    assert built(torch.randn(3, 16)).shape == (3, 4)
