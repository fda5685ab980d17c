"""Encoders and their initial weights."""

from __future__ import annotations

import pytest
import torch
import torchvision

from harness.cell import Backbone, Cell, Head
from harness.ssl import models
from harness.ssl.models.convnet import ConvNet
from harness.ssl.models.projector import projector
from harness.ssl.models.resnet import ResNet


@pytest.mark.e2e
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_width_64_is_torchvisions_resnet(name: str, stem: str) -> None:
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
