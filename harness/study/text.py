"""Puts axes, values and numbers into the words of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.catalog.losses import loss_label
from harness.catalog.methods import METHODS
from harness.study.statistics import Interval

#: What the table has for a cell without a value on an axis, such as a loss without a temperature.
ABSENT = "–"
#: The labels of axes that are more than the name of the field.
AXIS_LABELS = {"batch_size": "batch size", "lr": "learning rate", "lr_rule": "rule of the learning rate"}
#: The labels of a figure's scale of accuracy.
METRIC_LABELS = {
    "test_knn": "kNN accuracy, test images (%)",
    "test_linear": "linear probe, test images (%)",
    "init_knn": "kNN accuracy before training (%)",
    "init_linear": "linear probe before training (%)",
    "val_knn": "kNN accuracy, validation images (%)",
}


def axis_label(name: str) -> str:
    """Return the name of an axis in words: ``batch size``."""
    return AXIS_LABELS.get(name, name.replace("_", " "))


def value_label(name: str, value: object) -> str:
    """Return a value on the axis ``name`` as people know it: ``DCL``, ``0.1``."""
    if name == "loss":
        return loss_label(str(value))
    if name == "method" and value in METHODS:
        return METHODS[str(value)].label
    return f"{value:g}" if isinstance(value, float) else str(value)


def axis_and_value(name: str, value: object) -> str:
    """Return ``batch size 32``; losses and methods are known by their names alone."""
    return value_label(name, value) if name in ("loss", "method") else f"{axis_label(name)} {value_label(name, value)}"


def setting_label(values: Mapping[Any, object]) -> str:
    """Return ``temperature 0.2, MoCo v2``, without axes on which a loss or method has no value."""
    return ", ".join(axis_and_value(name, value) for name, value in values.items() if value != ABSENT)


def signed(number: float) -> str:
    """Return ``+1.20`` or ``−0.50``, with a real minus sign."""
    return f"{round(number, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")  # no negative zero


def percent(level: float) -> str:
    """Return ``98.75 %`` or ``95 %``."""
    return f"{100 * level:.4g} %"


def in_unit(interval: Interval, unit: str) -> tuple[str, str]:
    """Return the mean, with its unit if that is not points, and the bounds."""
    if unit == "times":
        return f"{interval.mean:.3f} times", f"[{interval.low:.3f}, {interval.high:.3f}]"
    if unit != "points":
        return f"{signed(interval.mean)} {unit}", f"[{signed(interval.low)}, {signed(interval.high)}]"
    return signed(interval.mean), f"[{signed(interval.low)}, {signed(interval.high)}]"


def upper(text: str) -> str:
    """Return a text whose first letter is a capital."""
    return text[:1].upper() + text[1:]


def lower(text: str) -> str:
    """Return a sentence without its full stop, for the middle of another one; a name such as DCL or FlatNCE stays as it
    is."""
    is_name = any(letter.isupper() for letter in text.partition(" ")[0][1:])
    return (text if is_name else text[:1].lower() + text[1:]).rstrip(".")


def count(number: int, what: str) -> str:
    """Return ``1 cell`` or ``3 cells``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
