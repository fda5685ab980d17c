"""``python -P -m harness.ssl.data.download cifar10 FOLDER``: fetch a data set through torchvision, which checks it."""

from __future__ import annotations

import sys
from urllib.error import URLError

import harness.ssl  # noqa: F401  (makes torchvision importable where torch is built for the CPU)
from harness.datasets import DATASETS, FixedDataset

#: The data sets that can be fetched, each with its class of ``torchvision.datasets``.
CLASSES = {
    name: dataset.torchvision_class
    for name, dataset in DATASETS.items()
    if isinstance(dataset, FixedDataset) and dataset.torchvision_class
}


def main(name: str, folder: str) -> int:
    """Fetch the data set into the folder; 1 if it could not be fetched, else 0."""
    from torchvision import datasets

    try:
        getattr(datasets, CLASSES[name])(folder, download=True)
    except (URLError, RuntimeError, OSError) as error:
        print(f"{name} could not be downloaded: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in CLASSES:
        sys.exit(f"usage: python -P -m harness.ssl.data.download {'|'.join(CLASSES)} FOLDER")
    sys.exit(main(sys.argv[1], sys.argv[2]))
