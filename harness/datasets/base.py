"""The base of the data sets: their numbers, the place of their files, and their images as numpy arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from harness.datasets.fingerprint import content_of
from harness.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Array: TypeAlias = "npt.NDArray[np.generic]"

#: The label of a training image that has none.
UNLABELLED = -1


@dataclass(frozen=True)
class Arrays:
    """The images and labels of a data set as its files hold them.

    ``train``: uint8 (n, C, H, W), in parts that follow one another; ``train_labels``: (n,), of all parts together.
    Labels count from 0 without gaps. Labelled images come first; the others have the label ``UNLABELLED``.
    """

    train: Sequence[Array]
    train_labels: Array
    test: Array
    test_labels: Array


@dataclass(frozen=True)
class DatasetFiles:
    """The files of a data set on this machine: their ``folder``, ``size`` in bytes, and what they hold.

    ``labelled``: how many of the ``train`` images have labels; ``notes``: sentences about what is left out, or is not
    read as it is.
    """

    folder: str
    fingerprint: str
    train: int
    test: int
    channels: int
    labelled: int
    size: int = 0
    notes: tuple[str, ...] = ()


class DatasetMissing(UserError):
    """The files are not on this machine."""


@dataclass(frozen=True, kw_only=True)
class FixedDataset(ABC):
    """A published data set, of which there is one copy: its numbers are known before its files are read.

    ``label``: its name in tables; ``image_size``: side in pixels; ``unlabelled``: how many of the ``train`` images have
    no label; ``torchvision_class``: the class of ``torchvision.datasets`` that downloads it, if there is one.

    torchvision's own readers are not used: they need torch, which planning never imports; they join what a memory map
    reads in place (STL-10 has 2.8 GB); they take no compressed files; and they do not name the file that is damaged.
    """

    name: str
    label: str
    channels: int
    image_size: int
    train: int
    test: int
    unlabelled: int = 0
    torchvision_class: str = ""

    @abstractmethod
    def locate(self, root: str | None) -> tuple[Path, list[Path]]:
        """Return the folder of the files, and the files that its fingerprint is taken of.

        Raises:
            DatasetMissing: they are not on this machine.
            UserError: they are not the whole data set.
        """

    @abstractmethod
    def read(self, folder: Path) -> Arrays:
        """Read the files in the folder that ``locate`` returned.

        Raises:
            UserError: a file is damaged.
        """

    def find(self, root: str | None) -> DatasetFiles:
        """Locate the files and identify their content; raises what ``locate`` raises."""
        folder, files = self.locate(root)
        content = content_of(folder, files)
        return self.files(str(folder), content.fingerprint, content.size)

    def files(self, folder: str = "", fingerprint: str = "", size: int = 0) -> DatasetFiles:
        """Describe its files; without arguments, those that have not been located."""
        return DatasetFiles(folder, fingerprint, self.train, self.test, self.channels, self.labelled, size)

    @property
    def labelled(self) -> int:
        """How many training images have labels."""
        return self.train - self.unlabelled

    def torchvision_files(self, root: str | None, subfolder: str, names: Sequence[str]) -> tuple[Path, list[Path]]:
        """Return the files ``names``, as torchvision unpacks them into ``subfolder`` of its root.

        Raises:
            DatasetMissing: one of them is not there.
        """
        folder = Path(root or "data") / subfolder
        files = [folder / name for name in names]
        if not all(path.exists() for path in files):
            raise DatasetMissing(
                f"{self.label} is not on this machine",
                where="dataset.root",
                allowed=f"torchvision's files in {folder}, or dataset=imagefolder dataset.root=FOLDER, "
                "or dataset=fashion_mnist",
                next_command=self.download_command(root),
            )
        return folder, files

    def download_command(self, root: str | None) -> str:
        """Return the command that fetches the data set through torchvision."""
        return f"python -P -m harness.ssl.data.download {self.name} {root or 'data'}"
