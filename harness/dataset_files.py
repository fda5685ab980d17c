"""Where a data set's files lie, how many images they hold, and the fingerprint of their content.

The fingerprint is part of a cell's identity: the same name over other bytes is another experiment. It is taken from
content only (paths relative to the root, decompressed bytes), so that it is equal on every machine. Because hashing
60,000 files, or gigabytes, takes seconds, it is remembered in the user's cache under the files' names, sizes and times.
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

from harness.catalog import TRAINING_VERSION
from harness.catalog.datasets import DATASETS
from harness.cell import Dataset
from harness.errors import UserError
from harness.files import read_json, write_json

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_FILES = tuple(
    f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
CIFAR10_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
CIFAR100_FILES = ("train", "test")
STL10_FILES = ("train_X.bin", "train_y.bin", "unlabeled_X.bin", "test_X.bin", "test_y.bin")

#: Folder and files of data sets that torchvision can fetch, as it unpacks them below its root.
TORCHVISION = {
    "cifar10": ("cifar-10-batches-py", CIFAR10_FILES),
    "cifar100": ("cifar-100-python", CIFAR100_FILES),
    "stl10": ("stl10_binary", STL10_FILES),
}


@dataclass(frozen=True)
class DatasetFiles:
    """``folder``: where the files lie, of ``size`` bytes; ``train``, ``test``, ``channels``: what they hold.

    ``labelled``: how many of the ``train`` images have labels.
    """

    folder: str
    fingerprint: str
    train: int
    test: int
    channels: int
    labelled: int
    size: int = 0


class DatasetMissing(UserError):
    """The files are not on this machine."""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/harness``, by default ``~/.cache/harness``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"


def kept_images(dataset: Dataset) -> Path:
    """Where the user's cache keeps an image folder: its files in one where they are streamed, else decoded pixels."""
    pixels = f"{dataset.fingerprint}-{dataset.image_size}-v{TRAINING_VERSION}.npz"
    return cache_folder() / "images" / (f"{dataset.fingerprint}.packed" if dataset.stream else pixels)


def bytes_to_keep(datasets: Iterable[Dataset], files: DatasetFiles, *, elsewhere: bool = False) -> int:
    """What the first cells of these data sets will write there; ``elsewhere``: where none of them is yet."""
    kept = {kept_images(dataset): dataset for dataset in datasets if dataset.name == "imagefolder"}
    return sum(_kept_bytes(dataset, files) for path, dataset in kept.items() if elsewhere or not path.exists())


def _kept_bytes(dataset: Dataset, files: DatasetFiles) -> int:
    pixels = (files.train + files.test) * files.channels * dataset.image_size**2
    return files.size if dataset.stream else pixels


def find(name: str, root: str | None) -> DatasetFiles:
    """Locate the data set and identify its content.

    Raises:
        DatasetMissing: its files are not there.
        UserError: they are not the whole data set.
    """
    if name == "imagefolder":
        return _imagefolder(root)
    if name in TORCHVISION:
        folder, files = _torchvision(name, root)
    else:
        folder, files = {"digits": _digits, "fashion_mnist": _fashion_mnist}[name](root)
    entry = DATASETS[name]
    assert entry.train is not None
    assert entry.test is not None
    assert entry.channels is not None
    labelled = entry.labelled or entry.train
    fingerprint, size = _fingerprint(folder, files)
    return DatasetFiles(str(folder), fingerprint, entry.train, entry.test, entry.channels, labelled, size)


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


def _torchvision(name: str, root: str | None) -> tuple[Path, list[Path]]:
    subfolder, names = TORCHVISION[name]
    folder = Path(root or "data") / subfolder
    files = [folder / file for file in names]
    if not all(path.exists() for path in files):
        raise DatasetMissing(
            f"{DATASETS[name].label} is not on this machine",
            where="dataset.root",
            allowed=f"torchvision's files in {folder}, or dataset=imagefolder dataset.root=FOLDER, "
            "or dataset=fashion_mnist",
            next_command=download_command(name, root),
        )
    if name == "stl10":
        _check_stl10(folder, root)
    return folder, files


def download_command(name: str, root: str | None) -> str:
    """What to type to fetch a data set through torchvision."""
    return f"python -m harness.ssl.data.download {name} {root or 'data'}"


def _check_stl10(folder: Path, root: str | None) -> None:
    """STL-10's files have no header, so that one that is cut short, as by a broken download, shows by its size only."""
    entry = DATASETS["stl10"]
    assert entry.train is not None
    assert entry.labelled is not None
    assert entry.test is not None
    assert entry.size is not None
    image = 3 * entry.size**2
    unlabelled = entry.train - entry.labelled
    sizes = (entry.labelled * image, entry.labelled, unlabelled * image, entry.test * image, entry.test)
    for path, wanted in zip((folder / name for name in STL10_FILES), sizes, strict=True):
        if (size := path.stat().st_size) != wanted:
            raise UserError(
                f"the file has {size:,} bytes instead of {wanted:,}",
                where=str(path),
                next_command=download_command("stl10", root),
            )


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
    fingerprint, size = _fingerprint(folder, train + test)
    return DatasetFiles(str(folder), fingerprint, len(train), len(test), channels=3, labelled=len(train), size=size)


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


def _fingerprint(folder: Path, files: Iterable[Path]) -> tuple[str, int]:
    """16 hex digits over names (relative, without .gz) and decompressed content; and the files' bytes."""
    files = list(files)
    stats = [(str(path), (status := path.stat()).st_size, status.st_mtime_ns) for path in files]
    total = sum(size for _, size, _ in stats)
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:24]
    remembered = cache_folder() / "fingerprints" / f"{key}.json"
    if known := read_json(remembered):
        return str(known["fingerprint"]), total
    digest = hashlib.sha256()
    for path in files:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as content:
            digest.update(str(path.relative_to(folder)).removesuffix(".gz").encode() + b"\0")
            digest.update(hashlib.file_digest(content, "sha256").digest())
    fingerprint = digest.hexdigest()[:16]
    remembered.parent.mkdir(parents=True, exist_ok=True)
    write_json(remembered, {"fingerprint": fingerprint})
    return fingerprint, total
