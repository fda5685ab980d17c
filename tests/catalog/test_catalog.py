"""Whatever the catalogue names has its code and its settings, and the other way round.

A failure names the component and the place that does not know it.
"""

from __future__ import annotations

import pkgutil
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import harness.ssl  # noqa: F401  (makes torchvision importable)
from harness.catalog import LR_RULES
from harness.catalog.backbones import BACKBONES, STEMS
from harness.catalog.losses import LOSSES
from harness.catalog.methods import METHODS
from harness.catalog.optimizers import OPTIMIZERS, OWN_SETTINGS, SCHEDULES
from harness.cell import Backbone, Cell, Head, Loss, Method, Optimizer
from harness.cli import doctor
from harness.datasets import DATASETS, FixedDataset, ImageFolder
from harness.evaluation import LINEAR_PROBES, Evaluation
from harness.ssl import methods, models, optim
from harness.ssl.data import download
from harness.ssl.distributed import World
from harness.ssl.evaluate import protocol
from harness.ssl.losses import FUNCTIONS
from harness.ssl.methods.base import TrainingMethod
from harness.ssl.methods.batch import Batch
from harness.ssl.models import backbones
from harness.ssl.optim.schedule import LR_SCALES, SHAPES
from harness.study.report.evaluation_text import described
from harness.sweep.declare.limits import NAMES
from harness.sweep.declare.schema import CONF

FIXED = {name: dataset for name, dataset in DATASETS.items() if isinstance(dataset, FixedDataset)}


def declared_names(group: str) -> dict[str, Path]:
    """The names that the settings in ``conf/<group>`` declare, each with its file."""
    found = {}
    for file in sorted((CONF / group).glob("*.yaml")):
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
        found[settings.get(group, settings)["name"]] = file  # settings that only set the group begin below its name
    return found


def test_every_data_set_has_its_settings() -> None:
    assert set(declared_names("dataset")) == set(DATASETS) == set(NAMES["dataset.name"])
    for name, dataset in DATASETS.items():
        assert dataset.name == name


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_sets_settings_have_the_size_of_its_images(name: str) -> None:
    dataset = DATASETS[name]
    settings = yaml.safe_load(declared_names("dataset")[name].read_text(encoding="utf-8"))["dataset"]
    if isinstance(dataset, FixedDataset):
        assert settings["image_size"] == dataset.image_size
        assert 0 < dataset.labelled <= dataset.train
    else:
        assert isinstance(dataset, ImageFolder)


@pytest.mark.parametrize("name", FIXED)
def test_a_data_set_that_torchvision_has_can_be_downloaded(name: str) -> None:
    import torchvision.datasets

    dataset = FIXED[name]
    assert download.CLASSES.get(name, "") == dataset.torchvision_class
    if dataset.torchvision_class:
        assert issubclass(getattr(torchvision.datasets, dataset.torchvision_class), torchvision.datasets.VisionDataset)
        assert name in dataset.download_command(None)


def test_the_page_of_data_sets_names_each() -> None:
    page = (Path(__file__).parents[2] / "docs/datasets.md").read_text(encoding="utf-8")
    first = page.split("\n\n")[1]
    assert [name for name in DATASETS if f"`{name}`" not in first] == []


def test_the_doctor_looks_for_every_fixed_data_set() -> None:
    assert [diagnosis.what for diagnosis in doctor._datasets()] == list(FIXED)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_has_its_settings_and_is_built_for_the_sizes_that_it_takes(name: str) -> None:
    assert name in declared_names("backbone")
    for stem, sides in BACKBONES[name].sides.items():
        assert stem in STEMS
        smallest = next(side for side in range(sides.largest + 1) if side in sides)
        encoder = models.encoder(Backbone(name, 4, stem), 3, smallest).eval()
        assert encoder(torch.zeros(2, 3, smallest, smallest)).shape == (2, encoder.features)


def test_a_backbone_without_a_choice_of_stems_has_none_in_tables() -> None:
    assert BACKBONES["resnet18"].stem_label("imagenet") == "ImageNet stem"
    assert BACKBONES["convnet"].stem_label("cifar") == ""


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_its_class_its_settings_and_its_parameters(name: str) -> None:
    assert issubclass(methods.CLASSES[name], TrainingMethod)
    settings = yaml.safe_load(declared_names("method")[name].read_text(encoding="utf-8"))
    assert METHODS[name].parameters.keys() <= {item.name for item in fields(Method)}
    group = settings.get("method", settings)
    assert group.keys() <= {"name", *METHODS[name].parameters}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_has_its_settings_and_makes_a_step(name: str) -> None:
    assert name in declared_names("optimizer")
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = optim.build(Optimizer(name), [weight])
    optimizer.param_groups[0]["lr"] = 0.1
    weight.sum().backward()
    optimizer.step()
    assert bool((weight < 1).all())


@pytest.mark.parametrize("name", LINEAR_PROBES)
def test_a_linear_probe_has_its_function_its_setting_its_words_and_a_preset(name: str) -> None:
    assert name in protocol.PROBES
    assert LINEAR_PROBES[name] in {item.name for item in fields(Evaluation)}
    presets = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in (CONF / "evaluate").glob("*.yaml")]
    (*_, preset) = (preset for preset in presets if preset["linear"] == name)
    assert preset[LINEAR_PROBES[name]] is not None
    assert described(Evaluation(linear=name, penalty=1.0, linear_epochs=1))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_has_its_function_and_fields_for_its_parameters(name: str) -> None:
    assert name in FUNCTIONS
    assert LOSSES[name].parameters.keys() <= {item.name for item in fields(Loss)}


@pytest.mark.parametrize("name", [name for name, entry in LOSSES.items() if entry.state])
def test_what_a_loss_keeps_of_each_image_is_given_to_it_and_stored(name: str) -> None:
    state = LOSSES[name].state
    assert state is not None
    cell = Cell(loss=Loss(name), backbone=Backbone("convnet", 4), head=Head(8, 6), batch_size=4)
    method = methods.build(cell, models.build(cell, 1), 10, World())
    views = torch.randn(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = Batch(lambda part: views[:, part], torch.arange(3, 7), seed=0, step=0)
    method.after_step(batch, method.compare(method(batch.whole), method.targets(batch), batch))
    stored = method.state_dict()[state.name]
    assert stored.shape == (10,)
    assert bool((stored[batch.rows] != state.initial).all())
    assert bool((stored[[0, 1, 2, 7, 8, 9]] == state.initial).all())


def test_nothing_has_code_or_settings_and_no_entry() -> None:
    names = {
        "backbone": BACKBONES,
        "method": METHODS,
        "optimizer": OPTIMIZERS,
    }
    for group, catalogued in names.items():
        assert set(declared_names(group)) == set(catalogued) == set(NAMES[f"{group}.name"])
    assert set(FUNCTIONS) == set(LOSSES)
    assert set(methods.CLASSES) == set(METHODS)
    assert set(optim.BUILDERS) == set(OPTIMIZERS)
    assert set(LR_SCALES) == set(LR_RULES)
    assert set(SHAPES) == set(SCHEDULES)
    assert {name for entry in OPTIMIZERS.values() for name in entry.own} == set(OWN_SETTINGS)
    assert set(OWN_SETTINGS) <= {item.name for item in fields(Optimizer)}
    assert set(protocol.PROBES) == set(LINEAR_PROBES)
    built = {entry.module for entry in BACKBONES.values()}
    assert {module.name for module in pkgutil.iter_modules(backbones.__path__)} - {"base"} == built
