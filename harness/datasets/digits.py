"""scikit-learn's digits: 1,797 handwritten digits of 8x8 pixels in 17 grey levels, installed with the package."""

from __future__ import annotations

import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from harness.datasets.base import Arrays, DatasetMissing, FixedDataset


@dataclass(frozen=True, kw_only=True)
class DigitsDataset(FixedDataset):
    """One table of all digits; there is no official split, so that a fixed draw takes the test images."""

    def locate(self, root: str | None) -> tuple[Path, list[Path]]:
        """Return the folder of scikit-learn and the file of the digits in it."""
        spec = importlib.util.find_spec("sklearn")
        if spec is None or spec.origin is None:
            raise DatasetMissing("the digits come with scikit-learn, which is missing", next_command="pip install -e .")
        folder = Path(spec.origin).parent / "datasets" / "data"
        return folder, [folder / "digits.csv.gz"]

    def read(self, folder: Path) -> Arrays:
        """Read the digits, uint8 (n, 1, 8, 8), and split them at random, the same way on every machine."""
        import numpy as np

        from harness.random_streams import permutation

        with gzip.open(folder / "digits.csv.gz") as file:
            table = np.loadtxt(file, delimiter=",")
        pixels = np.rint(table[:, :-1].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        labels = table[:, -1].astype(np.uint8)
        order = permutation(0, "digits test split", len(pixels))
        test, train = order[: self.test], order[self.test :]
        return Arrays([pixels[train]], labels[train], pixels[test], labels[test])


DIGITS = DigitsDataset(name="digits", label="scikit-learn digits", channels=1, image_size=8, train=1437, test=360)
