"""The result table of an experiment: its cells with their accuracies, and the axes along which they differ."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.cell import short_name
from harness.filters import parse
from harness.manifest import Manifest
from harness.study.axes import Setting, is_numeric, settings
from harness.study.statistics import mean_interval
from harness.study.text import ABSENT
from harness.trees import scalars

if TYPE_CHECKING:  # a plan checks claims, and must not wait for pandas
    import pandas as pd

#: The accuracies of a cell that are no learning curve, in per cent.
METRICS = ("test_knn", "test_linear", "init_knn", "init_linear", "val_knn")
#: The column of learning curves, which stays out of the CSV file.
CURVE = "curve"


def axis_columns(manifest: Manifest) -> list[str]:
    """Return all axes by their short names; loss, batch size, epochs and seed are always among them."""
    declared = [short_name(path) for path in manifest.axes]
    return [*[name for name in ("loss", "batch_size", "epochs", "seed") if name not in declared], *declared]


@dataclass(frozen=True, eq=False)
class ResultTable:
    """The cells that a manifest declares, or some of them, one in each row of ``frame``.

    ``harness.study.frame.tidy`` reads it from the records, and says which columns it has; ``damaged``: which files of
    the records are damaged, each in a sentence.
    """

    manifest: Manifest
    frame: pd.DataFrame
    damaged: Sequence[str] = ()

    @property
    def axes(self) -> list[str]:
        """The short names of all axes."""
        return axis_columns(self.manifest)

    @property
    def setting_axes(self) -> list[str]:
        """The axes other than loss, batch size and seed: curves are drawn for each combination."""
        return [name for name in self.axes if name not in ("loss", "batch_size", "seed")]

    @property
    def main_axis(self) -> str:
        """The axis along which accuracy is drawn: the batch size, or else the first axis on which every cell has a
        number, and not all of them the same; empty if there is none."""
        return next((name for name in ("batch_size", *self.setting_axes) if is_numeric(self.frame[name])), "")

    @functools.cached_property
    def fixed(self) -> Setting:
        """The values of a Cell's fields that are on no axis."""
        return {short_name(path): value for path, value in scalars(self.manifest.settings).items()}

    @functools.cached_property
    def arms(self) -> ResultTable:
        """The same experiment with one row for each arm (cells that differ only in the seed), as ``over_seeds`` makes
        them: names in their declared order, numbers by size."""
        keys = [*self.setting_axes, "batch_size", "loss"]
        arms = self.over_seeds(keys, METRICS[:4])
        return self.of(arms.sort_values(keys, key=self._declared_order).reset_index(drop=True))

    def _declared_order(self, column: pd.Series) -> pd.Series:
        import pandas as pd

        if pd.api.types.is_numeric_dtype(column):
            return column
        return column.map({name: position for position, name in enumerate(self.frame[column.name].drop_duplicates())})

    def of(self, frame: pd.DataFrame) -> ResultTable:
        """Return the table of other rows of the same experiment."""
        return ResultTable(self.manifest, frame)

    def where(self, text: str) -> ResultTable:
        """Return the cells that match a filter such as ``loss=dcl epochs=100``; an empty filter matches all."""
        import pandas as pd

        matching = pd.Series(True, index=self.frame.index)
        for condition in parse(text, short_name).conditions if text else ():
            if condition.path in self.frame:
                column = self.frame[condition.path]
                matching &= column.map({value: condition.holds(value) for value in column.unique()}).astype(bool)
            else:
                matching &= condition.holds(self.fixed.get(condition.path))
        return self.of(self.frame[matching])

    def in_setting(self, setting: Setting) -> ResultTable:
        """Return the cells of one setting; a loss without some parameter is in the settings of all its values."""
        rows = self.frame
        for name, value in setting.items():
            rows = rows[(rows[name] == value) | (rows[name] == ABSENT)]
        return self.of(rows)

    def settings(self, *drawn: str) -> list[Setting]:
        """Return the settings that need a panel each in a figure with a line for each loss over the axes ``drawn``."""
        return settings(self.frame, [name for name in (*self.setting_axes, "batch_size") if name not in drawn])

    def varying(self, setting: Setting) -> Setting:
        """Return the values that distinguish a setting from the other settings of this table."""
        return {name: value for name, value in setting.items() if self.frame[name].nunique() > 1}

    def over_seeds(self, keys: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Return a row for each group of cells that agree in ``keys``: the mean of each metric, and ``_low`` and
        ``_high``, the ends of its 95 % interval; ``k`` of the group's ``n`` cells have the first metric."""
        import pandas as pd

        rows = []
        for values, cells in self.frame.groupby([*keys], sort=False):
            row = dict(zip(keys, values, strict=True))
            row |= {"k": int(cells[metrics[0]].notna().sum()), "n": len(cells)}
            for metric in metrics:
                interval = mean_interval(cells[metric].dropna().tolist())
                row |= {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
            rows.append(row)
        return pd.DataFrame(rows)
