"""A user's own loss as a guest of a cell: what it draws, keeps and changes is the cell's, or is refused.

Its draws come from the cell's seed: the generators of torch, numpy and Python are seeded before the file is imported,
and again before each step, from the seed and the number of the step. What it keeps from step to step stands in the
dictionary ``state``, which is in every checkpoint. The settings of the process that it changes hold while it runs.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from harness.catalog.losses import LossEntry
from harness.errors import UserError
from harness.plugins import STATE, sources
from harness.random_streams import stream
from harness.ssl.losses.module_state import fingerprints, trainable
from harness.ssl.losses.process_settings import applied, restored
from harness.ssl.losses.validation import in_full_precision

#: The purposes of a loss's draws, see ``harness.random_streams``.
IMPORT_DRAWS, STEP_DRAWS = "import of a loss", "draws of a loss"
#: What ``state`` may hold, in lists and dictionaries: what a checkpoint can be read with that runs no code.
SAVED = Tensor | int | float | str | None


class OwnLossState(TypedDict):
    """What a checkpoint holds of a user's loss: its state, and hashes of values that changed outside of it, by name."""

    state: dict[str, Any]
    kept_outside: dict[str, str]


class OwnLoss:
    """A loss from a user's file or installed package, imported anew.

    Attributes:
        state: what it keeps from step to step, if it takes ``state``.
        settings: the settings of the process that its file has changed, which hold in its calls.

    Raises:
        UserError: the file does not run, has changed since it was described, or holds tensors to be trained.
    """

    def __init__(self, entry: LossEntry, seed: int = 0) -> None:
        self.entry = entry
        self.state: dict[str, Any] = {}
        self._expected: dict[str, str] = {}
        seed_generators(stream(seed, IMPORT_DRAWS))
        try:
            with restored() as self.settings:
                function = self._imported()
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise self._error(f"it cannot be imported: {type(error).__name__}: {error}") from error
        self._refuse_trainable()
        self._compute = in_full_precision(function, entry.parameters, unit_norm=entry.unit_norm)
        self._begun_with = fingerprints(self._modules)

    def _imported(self) -> Any:
        self._source = sources.read(Path(self.entry.file), self.entry.module)
        if self._source.hash != self.entry.source:
            raise self._error("it, or a module beside it that it imports, was edited since the cells were declared")
        module = sources.imported(self._source)
        self._modules = self._source.modules()
        return getattr(module, self.entry.function)

    def begin_step(self, seed: int, step: int) -> None:
        """Seed what the loss may draw from in this step."""
        seed_generators(stream(seed, STEP_DRAWS, step))

    def __call__(self, z1: Tensor, z2: Tensor, **parameters: float) -> Tensor:
        """Return the loss, a scalar.

        Raises:
            UserError: it returns something else, or keeps what no checkpoint can hold.
        """
        value = self.value(z1, z2, **parameters)
        if not isinstance(value, Tensor) or value.shape != ():
            returned = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise self._error(f"{self.entry.function} returns {returned}", allowed="a scalar, torch.Tensor of shape ()")
        self._refuse_unsavable()
        self._refuse_other_values()
        return value

    def value(self, z1: Tensor, z2: Tensor, **parameters: float) -> Any:
        """Return what the user's function returns."""
        more: dict[str, Any] = {STATE: self.state} if self.entry.keeps_state else {}
        try:
            with applied(self.settings):
                return self._compute(z1, z2, **parameters, **more)
        except SystemExit as error:
            raise self._error(f"{self.entry.function} ends the process: SystemExit: {error}") from error

    @property
    def with_state(self) -> str:
        """Return how a function is declared that keeps something from step to step."""
        return f"def {self.entry.function}(z1, z2, *, ..., state)"

    def first_value(self, z1: Tensor, z2: Tensor, **parameters: float) -> Any:
        """Return what the user's function returns in the first step of seed 0."""
        self.state = {}
        self.begin_step(0, 0)
        return self.value(z1, z2, **parameters)

    def checkpoint(self) -> OwnLossState:
        """Return what a checkpoint keeps of the loss.

        Raises:
            UserError: a step has made a tensor that would have to be trained.
        """
        self._refuse_trainable()
        return {"state": self.state, "kept_outside": self._kept_outside()}

    def resume(self, saved: OwnLossState) -> None:
        """Take over the state of a checkpoint.

        Values outside of it may be those of a cache, which the next step makes once more; then that step compares them.
        """
        self.state, self._expected = saved["state"], saved["kept_outside"]

    def _kept_outside(self) -> dict[str, str]:
        self._modules = {**self._source.modules(), **self._modules}  # a step may have imported more
        now = fingerprints(self._modules)
        return {name: now.get(name, "") for name in {**self._begun_with, **now}
                if self._begun_with.get(name) != now.get(name)}  # fmt: skip

    def _refuse_other_values(self) -> None:
        """Raise a UserError after the first step of a resumed cell if values that no checkpoint has are lost."""
        if not self._expected:
            return
        now, expected, self._expected = self._kept_outside(), self._expected, {}
        lost = [name for name in expected if now.get(name) != expected[name]]
        if lost:
            raise self._error(
                f"it changes {', '.join(lost)} from step to step, and no checkpoint has that: an interrupted cell "
                "cannot go on",
                allowed=f"{self.with_state}, which keeps it in the dictionary state",
            )

    def _refuse_trainable(self) -> None:
        """Raise a UserError where a tensor of the file requires a gradient: no optimiser would train it."""
        names = trainable(self._modules)
        if names:
            raise self._error(
                f"{', '.join(names)} would have to be trained, and no parameter of a loss is",
                allowed="a number as a parameter of the loss, which can be an axis; or requires_grad_(False)",
            )

    def _refuse_unsavable(self) -> None:
        for leaf in tree_leaves(self.state):
            if not isinstance(leaf, SAVED):
                what = f"a {type(leaf).__name__}"
            elif isinstance(leaf, Tensor) and leaf.requires_grad:
                what = "a tensor with a gradient"
            else:
                continue
            allowed = "tensors that are detached, numbers, strings, and lists and dictionaries of them"
            raise self._error(f"{self.entry.function} keeps {what} in its state", allowed=allowed)

    def _error(self, what: str, allowed: str = "") -> UserError:
        check = f"harness check-loss {self.entry.argument}"
        return UserError(what, where=self.entry.file, allowed=allowed, next_command=check)


def seed_generators(seeds: np.random.Generator) -> None:
    """Seed the generators of torch on every device, of numpy and of Python."""
    # Uniform draws, whose stream numpy keeps stable between releases.
    for_python, for_numpy, for_torch = (int(2**32 * draw) for draw in seeds.random(3))
    random.seed(for_python)
    np.random.seed(for_numpy)
    torch.manual_seed(for_torch)
