"""Which manifest a verb is about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from harness.errors import UserError


def manifest_name(experiment: str, overrides: Sequence[str]) -> str:
    """``<experiment>.<scale>`` of a file (at its default scale, or at ``scale=...``) or of such a name itself.

    Raises:
        UserError: the file does not exist, or an override is not a scale: a report is about what was swept.
    """
    scale = ""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key != "scale":
            raise UserError(
                f"'{override}' cannot be overridden here: this verb reads what was swept",
                where="command line",
                allowed="scale=NAME",
            )
        scale = value
    path = Path(experiment)
    if path.suffix not in (".yaml", ".yml"):
        return f"{experiment}.{scale}" if scale else experiment
    if not path.exists():
        known = sorted(str(file) for file in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise UserError("no such experiment", where=experiment, allowed=", ".join(known))
    default = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("scale", "")
    return f"{path.stem}.{scale or default}"
