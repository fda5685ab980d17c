"""The settings that the values of an experiment's axes make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.study.text import ABSENT
from harness.trees import Scalar

if TYPE_CHECKING:
    import pandas as pd

#: A value on each of some axes, by the short names of the axes.
Setting = Mapping[str, Scalar]


def is_numeric(column: pd.Series) -> bool:
    """Whether a column holds several numbers, and nothing else."""
    import pandas as pd

    kinds = pd.api.types
    return kinds.is_numeric_dtype(column) and not kinds.is_bool_dtype(column) and column.nunique() > 1


def settings(rows: pd.DataFrame, axes: Sequence[str]) -> list[Setting]:
    """Return every combination of these axes' values that the rows hold.

    A combination that differs from another one only by absent values is a part of that one, and is left out.
    """
    if not axes:
        return [{}]
    combinations = rows[[*axes]].drop_duplicates().to_dict("records")
    every: list[Setting] = [{str(name): value for name, value in values.items()} for values in combinations]

    def is_part(setting: Setting) -> bool:
        others = (other for other in every if other is not setting)
        return ABSENT in setting.values() and any(_agrees(setting, other) for other in others)

    return [setting for setting in every if not is_part(setting)]


def _agrees(setting: Setting, other: Setting) -> bool:
    """Whether a setting has the values of the other one, or none."""
    return all(value in (other[name], ABSENT) for name, value in setting.items())
