"""How many images a cell trains on and is evaluated with, and how many optimiser steps that makes."""

from __future__ import annotations

from harness.cell import Cell
from harness.datasets import DatasetFiles


def train_images(validation: float, files: DatasetFiles) -> int:
    """Return how many training images are left when this fraction of the labelled ones is held out."""
    return files.train - round(files.labelled * validation)


def train_count(cell: Cell, files: DatasetFiles) -> int:
    """Return how many training images are left after the validation images are held out."""
    return train_images(cell.dataset.validation, files)


def bank_count(cell: Cell, files: DatasetFiles) -> int:
    """Return how many labelled training images are left after the validation images are held out."""
    return files.labelled - round(files.labelled * cell.dataset.validation)


def steps_per_epoch(cell: Cell, files: DatasetFiles) -> int:
    """Return the steps of an epoch, whose last partial batch is dropped."""
    return train_count(cell, files) // cell.batch_size


def steps_of(cell: Cell, files: DatasetFiles) -> int:
    """Return the optimiser steps of the whole cell."""
    return cell.steps or cell.epochs * steps_per_epoch(cell, files)
