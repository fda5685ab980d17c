"""Axes, values and numbers in the words of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.catalog.losses import loss_label
from harness.catalog.methods import METHODS
from harness.study.statistics import Interval

#: What a cell lacks.
ABSENT = "–"
UNITS = {"batch_size": "batch size", "lr": "learning rate", "lr_rule": "rule of the learning rate"}


#: Of a figure's scale of accuracy.
METRIC_WORDS = {
    "test_knn": "kNN accuracy, test images (%)",
    "test_linear": "linear probe, test images (%)",
    "init_knn": "kNN accuracy before training (%)",
    "init_linear": "linear probe before training (%)",
    "val_knn": "kNN accuracy, validation images (%)",
}


def axis(name: str) -> str:
    """``batch size``."""
    return UNITS.get(name, name.replace("_", " "))


def shown(name: str, value: object) -> str:
    """A value on the axis ``name`` as people know it: ``DCL``, ``0.1``."""
    if name == "loss":
        return loss_label(str(value))
    if name == "method" and value in METHODS:
        return METHODS[str(value)].label
    return f"{value:g}" if isinstance(value, float) else str(value)


def phrase(name: str, value: object) -> str:
    """``batch size 32``; losses and methods go by their names alone."""
    return shown(name, value) if name in ("loss", "method") else f"{axis(name)} {shown(name, value)}"


def setting(values: Mapping[Any, Any]) -> str:
    """``temperature 0.2, MoCo v2``, without what a loss or method lacks."""
    return ", ".join(phrase(name, value) for name, value in values.items() if value != ABSENT)


def signed(number: float) -> str:
    """``+1.20`` or ``-0.50``, with a real minus sign."""
    return f"{round(number, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")  # no negative zero


def percent(level: float) -> str:
    """``98.75 %``, ``95 %``."""
    return f"{100 * level:.4g} %"


def in_unit(interval: Interval, unit: str) -> tuple[str, str]:
    """The mean, with its unit where that is not points, and the bounds."""
    if unit == "times":
        return f"{interval.mean:.3f} times", f"[{interval.low:.3f}, {interval.high:.3f}]"
    if unit != "points":
        return f"{signed(interval.mean)} {unit}", f"[{signed(interval.low)}, {signed(interval.high)}]"
    return signed(interval.mean), f"[{signed(interval.low)}, {signed(interval.high)}]"


def upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def lower(text: str) -> str:
    """Without its full stop, for the middle of a sentence; a name such as DCL or FlatNCE stays as it is."""
    named = any(letter.isupper() for letter in text.partition(" ")[0][1:])
    return (text if named else text[:1].lower() + text[1:]).rstrip(".")


def count(number: int, what: str) -> str:
    """``1 cell``, ``3 cells``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
