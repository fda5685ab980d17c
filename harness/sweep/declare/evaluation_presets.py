"""The named evaluations of ``conf/evaluate/``, which verbs add to finished records."""

from __future__ import annotations

import functools
from pathlib import Path

import yaml

from harness.cell import from_dict
from harness.errors import UserError, nearest
from harness.evaluation import Evaluation

FOLDER = Path(__file__).parents[2] / "conf" / "evaluate"


def names() -> list[str]:
    """Return the names of all presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Evaluation:
    """Return the evaluation of a preset.

    Raises:
        UserError: there is none of this name.
    """
    if name not in names():
        what = f"no evaluation preset '{name}'{nearest(name, names())}"
        raise UserError(what, where="--preset", allowed=", ".join(names()))
    return from_dict(Evaluation, yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


@functools.cache
def named(evaluation: Evaluation) -> str | None:
    """Return the name of the preset with the same final numbers as this evaluation; None if there is none."""
    return next((name for name in names() if load(name).final() == evaluation.final()), None)
