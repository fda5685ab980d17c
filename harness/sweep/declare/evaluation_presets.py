"""The named evaluations of ``conf/evaluate/``, for verbs that add one to finished records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from harness.cell import from_dict
from harness.errors import UserError, nearest
from harness.evaluation import Evaluation, final

FOLDER = Path(__file__).parents[2] / "conf" / "evaluate"


def load(name: str) -> Evaluation:
    """The evaluation of a preset.

    Raises:
        UserError: there is none of this name.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if name not in known:
        what = f"no evaluation preset '{name}'{nearest(name, known)}"
        raise UserError(what, where="--preset", allowed=", ".join(known))
    return from_dict(Evaluation, yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


def named(settings: Mapping[str, Any]) -> str | None:
    """The preset that gives the same final numbers as these settings, if there is one."""
    for path in sorted(FOLDER.glob("*.yaml")):
        if final(asdict(load(path.stem))) == final(settings):
            return path.stem
    return None
