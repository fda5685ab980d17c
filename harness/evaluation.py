"""How an encoder is judged. It stands in the submission, not in the cell, so that a record can be evaluated again
without training.

What changes the final numbers is the identity of an evaluation, like ``cell_id`` of a training run:
``Evaluation.final`` and ``Evaluation.key``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from harness.cell import Dataset
from harness.trees import Scalar

#: The linear probes, each with the setting that is its own.
LINEAR_PROBES = {"lbfgs": "penalty", "adam": "linear_epochs", "sgd": "linear_epochs"}

#: Settings that came after records had been evaluated, with the value that those were evaluated with. A default may
#: change; a value here never does.
BIRTH_VALUES = {"linear": "lbfgs"}


@dataclass(frozen=True)
class Evaluation:
    """The settings of one evaluation.

    ``knn_k`` neighbours vote, weighted by exp(cosine / ``knn_temperature``), or with one vote each where that is None.

    ``linear``: the linear probe: lbfgs with a ridge ``penalty``, or adam or sgd for ``linear_epochs``.
    ``every``: epochs between points of the learning curve; ``curve_bank``: how many training images its nearest
    neighbours are taken from (the test uses all).
    """

    knn_k: int = 20
    knn_temperature: float | None = 0.07
    linear: str = "lbfgs"
    penalty: float | None = 1e-4
    linear_epochs: int | None = None
    every: int = 1
    curve_bank: int = 10_000

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> Evaluation:
        """Return the settings that a record holds, which may be older than some of the fields."""
        known = {**BIRTH_VALUES, **settings}
        return cls(**{name: known[name] for name in _NAMES if name in known})

    def final(self) -> dict[str, Scalar]:
        """Return the settings that change the final numbers; others shape the curve only, or are another probe's."""
        names = ("knn_k", "knn_temperature", "linear", LINEAR_PROBES[self.linear])
        return {name: getattr(self, name) for name in names}

    def key(self, dataset: Dataset) -> str:
        """Return 12 hex digits, which are equal where the settings that change numbers, and the images, are equal."""
        numbers = {name: float(value) if isinstance(value, int) else value for name, value in self.final().items()}
        identity = {"settings": numbers, "dataset": dataset.name, "fingerprint": dataset.fingerprint}
        canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


_NAMES = tuple(item.name for item in fields(Evaluation))
