"""The data sets, one file each: numbers, files, fingerprint, reader and download.

No torch; numpy is imported when images are read, because most verbs need none.

A new one needs a file here, its line in ``DATASETS``, and its settings in ``conf/dataset``.
"""

from __future__ import annotations

from harness.datasets.base import Array, Arrays, DatasetFiles, DatasetMissing, FixedDataset
from harness.datasets.cifar import CIFAR10, CIFAR100
from harness.datasets.digits import DIGITS
from harness.datasets.fashion_mnist import FASHION_MNIST
from harness.datasets.image_folder import IMAGE_FOLDER, ImageFolder
from harness.datasets.stl10 import STL10
from harness.errors import UserError, nearest

__all__ = [
    "DATASETS",
    "Array",
    "Arrays",
    "DatasetFiles",
    "DatasetMissing",
    "FixedDataset",
    "ImageFolder",
    "find",
    "named",
]

_ALL: tuple[FixedDataset | ImageFolder, ...] = (
    DIGITS,
    FASHION_MNIST,
    CIFAR10,
    CIFAR100,
    STL10,
    IMAGE_FOLDER,
)

DATASETS = {dataset.name: dataset for dataset in _ALL}


def named(name: str, where: str = "dataset.name") -> FixedDataset | ImageFolder:
    """Return the data set of this name; ``where``: the place of the name, for an error.

    Raises:
        UserError: there is none.
    """
    if name not in DATASETS:
        what = f"unknown dataset '{name}'{nearest(name, DATASETS)}"
        raise UserError(what, where=where, allowed=", ".join(DATASETS))
    return DATASETS[name]


def find(name: str, root: str | None) -> DatasetFiles:
    """Locate a data set's files and identify their content.

    Raises:
        DatasetMissing: they are not on this machine.
        UserError: there is no such data set, or its files are not the whole of it.
    """
    return named(name).find(root)
