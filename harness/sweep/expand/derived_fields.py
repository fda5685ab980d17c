"""The fields of ``derive``, whose values follow from batch size and length of training; and the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harness.cell import short_name
from harness.errors import UserError, below, nearest
from harness.sweep.declare.compose import Declaration
from harness.sweep.declare.fields import variable_path
from harness.sweep.declare.limits import check_value, type_of
from harness.sweep.expand.axes import Grid
from harness.trees import Node, Scalar


@dataclass(frozen=True)
class TrainingLength:
    """The facts about a cell that rules read; ``epochs`` is a fraction if its steps end within an epoch."""

    batch_size: int
    epochs: float


def fraction_of_epochs(share: float, length: TrainingLength) -> float:
    """Return this share of the epochs, for a warm-up."""
    return share * length.epochs


def linear_in_batch_size(at_256: float, length: TrainingLength) -> float:
    """Return ``at_256 * batch_size / 256``."""
    return at_256 * length.batch_size / 256


def sqrt_in_batch_size(at_256: float, length: TrainingLength) -> float:
    """Return ``at_256 * sqrt(batch_size / 256)``."""
    return at_256 * math.sqrt(length.batch_size / 256)


def groups_of(samples: float, length: TrainingLength) -> float:
    """Return how many groups of this size a batch has, one if it is smaller; raise a ValueError if one is not full."""
    if 0 < length.batch_size <= samples:
        return 1
    if samples <= 0 or length.batch_size % samples:
        raise ValueError(f"a batch of {length.batch_size} cannot be divided into groups of {samples:g}")
    return length.batch_size / samples


RULES: dict[str, Callable[[float, TrainingLength], float]] = {
    rule.__name__: rule for rule in (fraction_of_epochs, linear_in_batch_size, sqrt_in_batch_size, groups_of)
}
#: The fields that rules read, and that can therefore not be derived.
READ = ("batch_size", "epochs", "steps")


@dataclass(frozen=True)
class Derived:
    """A field and its rule; ``key`` declares the rule, such as ``derive.lr``."""

    path: str
    rule: Callable[[float, TrainingLength], float]
    number: float
    key: str

    def value(self, length: TrainingLength) -> Scalar:
        """Return the value in the field's type, rounded to ten digits: 0.1 of 3 epochs equals a declared 0.3.

        Raises:
            UserError: the field cannot hold it.
        """
        with below(self.key):
            try:
                value = float(f"{self.rule(self.number, length):.10g}")
            except ValueError as error:
                raise UserError(str(error), allowed="a number that divides every larger batch size") from None
            whole = type_of(self.path) is int and value.is_integer()
            return check_value(self.path, int(value) if whole else value)


def derived_fields(declaration: Declaration, grids: Iterable[Grid]) -> list[Derived]:
    """Return the rules of ``derive``.

    Raises:
        UserError: no such field or rule, or a field that varies already.
    """
    keys = {path: key for grid in grids for path, key in grid.keys.items()}
    derived: dict[str, Derived] = {}
    for name, node in declaration.experiment.derive.items():
        with below(f"derive.{name}"):
            path = variable_path(str(name))
            if path in keys:
                what = f"{short_name(path)} is derived here and varies as {keys[path]}"
                raise UserError(what, allowed="one of them")
            if path in derived or path in READ:
                what = f"{short_name(path)} is derived twice" if path in derived else f"{name} is what rules read"
                raise UserError(what, allowed="any other field")
            rule, number = _read(node)
        derived[path] = Derived(path, rule, number, f"derive.{name}")
    return list(derived.values())


def _read(node: Node) -> tuple[Callable[[float, TrainingLength], float], float]:
    example = f"one of {', '.join(RULES)} with its number, such as {{fraction_of_epochs: 0.1}}"
    if not isinstance(node, Mapping) or len(node) != 1:
        raise UserError("a derived field has one rule", allowed=example)
    ((rule, number),) = node.items()
    if rule not in RULES:
        raise UserError(f"unknown rule '{rule}'{nearest(str(rule), RULES)}", allowed=", ".join(RULES))
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise UserError(f"{rule}: {number!r} is no number", allowed=example)
    return RULES[rule], float(number)


def check_budget(declaration: Declaration, grids: Iterable[Grid]) -> None:
    """Raise a UserError if both epochs and steps are declared: each of them says how long a cell trains."""
    budget = declaration.budget
    if len(budget) > 1:
        remedy = "budget: {epochs: 100} or budget: {steps: 10000}; budget.epochs=null takes one back"
        raise UserError("a budget is of epochs or of steps, not of both", key="budget.steps", allowed=remedy)
    length_key = next((f"budget.{name}" for name in budget), "")
    if not length_key and declaration.settings["steps"] is not None:
        length_key = "steps"
    for grid in grids:
        keys = {path: key for path, key in grid.keys.items() if path in ("epochs", "steps")}
        other = length_key if "epochs" in keys or length_key.startswith("budget") else ""
        if keys and (other or len(keys) == 2):
            first, *rest = keys
            what = f"{first} vary, and {other or keys[rest[0]]} too says how long a cell trains"
            if any(other in override.values for override in declaration.typed):
                raise UserError(what, key=other, allowed=f"~{keys[first]} with it, or {keys[first]} alone")
            raise UserError(what, key=keys[first], allowed="one of them")
