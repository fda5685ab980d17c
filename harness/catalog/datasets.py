"""What is known of each data set before its files are read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetEntry:
    """A data set; ``channels``, ``size``, ``train``, ``labelled`` and ``test`` are None where only its files tell.

    ``labelled``: how many of the ``train`` images have labels, where that is not all of them.
    """

    label: str
    channels: int | None = None
    size: int | None = None
    train: int | None = None
    test: int | None = None
    labelled: int | None = None


DATASETS = {
    "digits": DatasetEntry("scikit-learn digits", channels=1, size=8, train=1437, test=360),
    "fashion_mnist": DatasetEntry("Fashion-MNIST", channels=1, size=28, train=60_000, test=10_000),
    "cifar10": DatasetEntry("CIFAR-10", channels=3, size=32, train=50_000, test=10_000),
    "cifar100": DatasetEntry("CIFAR-100", channels=3, size=32, train=50_000, test=10_000),
    "stl10": DatasetEntry("STL-10", channels=3, size=96, train=105_000, test=8_000, labelled=5_000),
    "imagefolder": DatasetEntry("image folder", channels=3),
}
