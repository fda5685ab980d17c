"""Where a data set's files lie, how many images they hold, and the fingerprint of their content.

The fingerprint is part of a cell's identity: the same name over other bytes is another experiment. It is taken from
content only (paths relative to the root, decompressed bytes), so that it is equal on every machine. Because hashing
60,000 files takes seconds, it is remembered in the user's cache under the files' names, sizes and times.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.catalog import DATASETS
from harness.errors import UserError
from harness.record import read_json, write_json

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_FILES = tuple(
    f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


@dataclass(frozen=True)
class DatasetFiles:
    """``folder``: where the files lie; ``train``, ``test``, ``channels``: what they hold."""

    folder: str
    fingerprint: str
    train: int
    test: int
    channels: int


class DatasetMissing(UserError):
    """The files are not on this machine."""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/harness``, by default ``~/.cache/harness``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"


def find(name: str, root: str | None) -> DatasetFiles:
    """Locate the data set and identify its content.

    Raises:
        DatasetMissing: its files are not there.
    """
    if name == "imagefolder":
        return _imagefolder(root)
    folder, files = {"digits": _digits, "fashion_mnist": _fashion_mnist, "cifar10": _cifar10}[name](root)
    entry = DATASETS[name]
    assert entry.train is not None
    assert entry.test is not None
    assert entry.channels is not None
    return DatasetFiles(str(folder), _fingerprint(folder, files), entry.train, entry.test, entry.channels)


def _digits(root: str | None) -> tuple[Path, list[Path]]:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DatasetMissing("the digits come with scikit-learn, which is missing", next_command="pip install -e .")
    folder = Path(spec.origin).parent / "datasets" / "data"
    return folder, [folder / "digits.csv.gz"]


def _fashion_mnist(root: str | None) -> tuple[Path, list[Path]]:
    torchvision_folder = Path(root or "data") / "FashionMNIST" / "raw"
    for folder in (torchvision_folder, DEBIAN_FASHION_MNIST):
        found = [next((p for p in (folder / f, folder / f"{f}.gz") if p.exists()), None) for f in FASHION_MNIST_FILES]
        if all(found):
            return folder, [path for path in found if path]
    raise DatasetMissing(
        "Fashion-MNIST is not on this machine",
        where="dataset.root",
        allowed=f"torchvision's files in {torchvision_folder}, or Debian's in {DEBIAN_FASHION_MNIST}",
        next_command="apt-get install dataset-fashion-mnist",
    )


def _cifar10(root: str | None) -> tuple[Path, list[Path]]:
    folder = Path(root or "data") / CIFAR10_FOLDER
    files = [folder / name for name in CIFAR10_FILES]
    if not all(path.exists() for path in files):
        raise DatasetMissing(
            "CIFAR-10 is not on this machine",
            where="dataset.root",
            allowed=f"torchvision's files in {folder}, or dataset=imagefolder dataset.root=FOLDER, "
            "or dataset=fashion_mnist",
            next_command=f"python -m harness.ssl.data.download cifar10 {root or 'data'}",
        )
    return folder, files


def _imagefolder(root: str | None) -> DatasetFiles:
    layout = "FOLDER/train/<class>/*.jpg and FOLDER/test/<class>/*.jpg (or val/ for test/)"
    if root is None:
        raise DatasetMissing(
            "an image folder needs its root", where="dataset.root", allowed=layout, next_command="dataset.root=FOLDER"
        )
    folder = Path(root).resolve()
    held_out = held_out_split(folder)
    train, test = images(folder / "train"), images(held_out)
    if not train or not test:
        raise DatasetMissing(f"no images below {folder}/train and {held_out}", where="dataset.root", allowed=layout)
    classes = {path.parent.name for path in train}
    if unknown := sorted({path.parent.name for path in test} - classes):
        raise UserError(
            f"{held_out.name}/ has classes that train/ lacks: {', '.join(unknown[:5])}",
            where="dataset.root",
            allowed=", ".join(sorted(classes)[:10]),
        )
    return DatasetFiles(str(folder), _fingerprint(folder, train + test), len(train), len(test), 3)


def held_out_split(folder: Path) -> Path:
    """``test/``, or ``val/`` where there is no ``test/``."""
    return folder / "test" if (folder / "test").is_dir() else folder / "val"


def images(split: Path) -> list[Path]:
    """Image files ``split/<class>/<file>``, sorted by class and name."""
    if not split.is_dir():
        return []
    found = []
    for label in sorted(entry.path for entry in os.scandir(split) if entry.is_dir()):
        names = sorted(name for name in os.listdir(label) if name.lower().endswith(IMAGE_SUFFIXES))
        found += [Path(label, name) for name in names]
    return found


def _fingerprint(folder: Path, files: Iterable[Path]) -> str:
    """16 hex digits over names (relative, without .gz) and decompressed content."""
    files = list(files)
    stats = [(str(path), (status := path.stat()).st_size, status.st_mtime_ns) for path in files]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:24]
    remembered = cache_folder() / "fingerprints" / f"{key}.json"
    if known := read_json(remembered):
        return str(known["fingerprint"])
    digest = hashlib.sha256()
    for path in files:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        digest.update(str(path.relative_to(folder)).removesuffix(".gz").encode() + b"\0")
        digest.update(hashlib.sha256(content).digest())
    fingerprint = digest.hexdigest()[:16]
    remembered.parent.mkdir(parents=True, exist_ok=True)
    write_json(remembered, {"fingerprint": fingerprint})
    return fingerprint
