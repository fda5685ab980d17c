"""Whatever the catalogue names has its code and its settings, and the other way round.

A failure names the component and the place that does not know it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import harness.ssl  # noqa: F401  (makes torchvision importable)
from harness.catalog.losses import LOSSES
from harness.cli import doctor
from harness.datasets import DATASETS, FixedDataset, ImageFolder
from harness.ssl.data import download
from harness.ssl.losses import FUNCTIONS
from harness.sweep.declare.limits import NAMES
from harness.sweep.declare.schema import CONF

FIXED = {name: dataset for name, dataset in DATASETS.items() if isinstance(dataset, FixedDataset)}


def declared_names(group: str) -> dict[str, Path]:
    """The names that the settings in ``conf/<group>`` declare, each with its file."""
    files = sorted((CONF / group).glob("*.yaml"))
    return {yaml.safe_load(file.read_text(encoding="utf-8"))[group]["name"]: file for file in files}


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


def test_the_doctor_looks_for_every_fixed_data_set() -> None:
    assert [diagnosis.what for diagnosis in doctor._datasets()] == list(FIXED)


def test_every_loss_has_its_function() -> None:
    assert set(LOSSES) == set(FUNCTIONS)
