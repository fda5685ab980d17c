"""Cluster profiles: what ``cluster=NAME`` means where NAME is no group of harness's own.

A profile is a file of the keys of ``cluster:`` for one cluster: ``slurm/clusters/NAME.yaml`` of the present folder,
``~/.config/harness/clusters/NAME.yaml`` of the user, or any file by its path.
"""

from __future__ import annotations

import os
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.errors import UserError, nearest
from harness.sweep.check import check_range
from harness.sweep.locate import Locator

SUFFIXES = (".yaml", ".yml")


def folders() -> list[Path]:
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return [Path("slurm/clusters"), Path(config) / "harness" / "clusters"]


def names() -> list[str]:
    """The profiles that ``cluster=`` finds."""
    return sorted({path.stem for folder in folders() for path in folder.glob("*.yaml")})


def find(name: str) -> Path | None:
    """The file of a profile; None where there is none."""
    if name.endswith(SUFFIXES):
        return Path(name)
    return next((path for folder in folders() if (path := folder / f"{name}.yaml").is_file()), None)


def load(path: Path, schema: type[Any]) -> dict[str, Any]:
    """The values that a profile sets, checked against the schema of ``cluster:``.

    Raises:
        UserError: the file does not exist, or has a key or value that is not allowed.
    """
    if not path.is_file():
        raise UserError(
            "no such profile", where=f"command line: cluster={path}", allowed=", ".join(names()) or "none yet"
        )
    where = Locator(path, "", []).where
    values = typing.cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(path), resolve=False))
    known = [item.name for item in fields(schema)]
    for key, value in values.items():
        if key not in known:
            raise UserError(
                f"unknown key '{key}'{nearest(str(key), known)}", where=where(str(key)), allowed=", ".join(known)
            )
        try:
            OmegaConf.merge(OmegaConf.structured(schema), {key: value})
        except OmegaConfBaseException as error:
            raise UserError(str(error).splitlines()[0], where=where(key), allowed="see docs/slurm.md") from None
        if value is not None:
            check_range(f"cluster.{key}", value, where(key))
    return values
