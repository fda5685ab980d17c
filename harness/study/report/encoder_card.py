"""The two files that accompany an exported encoder: a description, and a program that loads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.catalog.backbones import BACKBONES
from harness.catalog.losses import loss_label
from harness.catalog.methods import METHODS
from harness.cell import Cell
from harness.datasets import DATASETS
from harness.store.record import Record
from harness.study.report.evaluation_text import described

#: The width and the number of channels of torchvision's ResNets.
PUBLISHED = (64, 3)


@dataclass(frozen=True)
class EncoderImages:
    """The images that an encoder takes: their number of channels, and the mean and the deviation by which the pixels of
    each channel are normalised."""

    channels: int
    mean: Sequence[float]
    std: Sequence[float]


def readme(record: Record, images: EncoderImages) -> str:
    """Return what the encoder of a finished cell is, how good it is, and how its images are normalised."""
    cell, outcome = record.cell(), record.outcome()
    assert outcome
    assert outcome.evaluation
    label = METHODS[cell.method.name].label
    entry = BACKBONES[cell.backbone.name]
    backbone, stem = entry.label, entry.stem_label(cell.backbone.stem)
    revision = record.attempts()[outcome.attempt - 1].provenance().environment.revision or "unknown"
    facts = {
        "encoder": f"{backbone}, width {cell.backbone.width}{f', {stem}' if stem else ''}, without a projector",
        "method": label,
        "loss": ", ".join([loss_label(cell.loss.name), *_parameters(cell)]),
        "data": f"{DATASETS[cell.dataset.name].label}, {cell.dataset.image_size} pixels, fingerprint "
        f"{cell.dataset.fingerprint}",
        "training": f"{cell.epochs} epochs, batch size {cell.batch_size}, seed {cell.seed}, {cell.precision}",
        "revision of harness": revision,
    }
    metrics = outcome.metrics
    mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (images.mean, images.std))
    return "\n".join(
        [
            f"# {backbone} trained with {label} and {loss_label(cell.loss.name)} (cell {record.cell_id})",
            "",
            *(f"- {name}: {fact}" for name, fact in facts.items()),
            "",
            "Everything that decided its weights is in `cell.json`.",
            "",
            "| accuracy on the test images (%) | kNN | linear probe |",
            "| --- | --- | --- |",
            f"| this encoder | {metrics['test_knn']:.2f} | {metrics['test_linear']:.2f} |",
            f"| the same before training | {metrics['init_knn']:.2f} | {metrics['init_linear']:.2f} |",
            "",
            described(outcome.evaluation),
            "",
            f"It takes pixels in [0, 1] of {images.channels} channel{'s' if images.channels > 1 else ''}, less the "
            f"mean ({mean}), divided by the deviation ({std}); both stand in the metadata of `encoder.safetensors`. "
            "`python load_encoder.py` shows it.",
            "",
        ]
    )


def _parameters(cell: Cell) -> list[str]:
    """Return the parameters that the loss has: ``temperature 0.1``."""
    parameters = {**vars(cell.loss), **(cell.loss.own or {})}
    return [
        f"{name.replace('_', ' ')} {value}"
        for name, value in parameters.items()
        if value is not None and name not in ("name", "own", "source")
    ]


def example(cell: Cell, channels: int) -> str:
    """Return a program that loads the weights and prints the shape of their features of random images."""
    parts = [HEAD]
    if cell.backbone.name.startswith("resnet") and (cell.backbone.width, channels) == PUBLISHED:
        parts += [TORCHVISION, CIFAR_STEM if cell.backbone.stem == "cifar" else "", TORCHVISION_END]
    return "".join([*parts, TAIL]).format(size=cell.dataset.image_size, backbone=cell.backbone.name)


HEAD = '''"""Loads encoder.safetensors and prints the shape of its features: python load_encoder.py"""

import json
from pathlib import Path

import torch
from safetensors import safe_open

from harness.cell import Backbone
from harness.ssl.models import encoder

with safe_open(Path(__file__).with_name("encoder.safetensors"), framework="pt") as file:
    weights = {{name: file.get_tensor(name) for name in file.keys()}}
    about = json.loads(file.metadata()["harness"])

model = encoder(Backbone(**about["backbone"]), about["channels"], about.get("image_size"))
model.load_state_dict(weights)
model.eval()

generator = torch.Generator().manual_seed(0)
images = torch.rand(4, about["channels"], {size}, {size}, generator=generator)  # pixels in [0, 1]
mean, std = (torch.tensor(about[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
with torch.no_grad():
    features = model((images - mean) / std)
'''

TORCHVISION = """
# The weights have torchvision's names: without harness, they go into torchvision's model.
import torchvision

plain = torchvision.models.{backbone}()
plain.fc = torch.nn.Identity()
"""

CIFAR_STEM = """plain.conv1 = torch.nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)  # the stem for small images
plain.maxpool = torch.nn.Identity()
"""

TORCHVISION_END = """plain.load_state_dict(weights)
plain.eval()
with torch.no_grad():
    torch.testing.assert_close(plain((images - mean) / std), features)
"""

TAIL = """
print("features:", tuple(features.shape))
"""
