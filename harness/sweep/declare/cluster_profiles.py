"""Cluster profiles: the meaning of ``cluster=NAME`` if NAME is not one of the clusters in ``harness/conf``.

A profile is a file of the keys of ``cluster:`` for one cluster: ``slurm/clusters/NAME.yaml`` of the present folder,
``~/.config/harness/clusters/NAME.yaml`` of the user, or any file by its path.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.errors import UserError, below, located, nearest
from harness.sweep.declare.limits import check_range
from harness.sweep.declare.schema import CONF, ClusterConfig
from harness.sweep.declare.source_map import Locator
from harness.trees import Node, Tree

#: The form of values that schedulers write in another way.
FORMS = {
    "time": "minutes, such as 240",
    "memory": "GiB, such as 64",
    "setup": "a list of shell lines, such as [module load cuda]",
    "srun": "a list of arguments, such as [--cpu-bind=cores]",
    "sbatch": "options by their long names, such as {exclude: node13}",
}
SUFFIXES = (".yaml", ".yml")


def folders() -> list[Path]:
    """Return the folders that are searched for profiles, in order."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return [Path("slurm/clusters"), Path(config) / "harness" / "clusters"]


def names() -> list[str]:
    """Return the names of the profiles that ``cluster=`` finds."""
    return sorted({path.stem for folder in folders() for path in folder.glob("*.yaml")})


def find(name: str) -> Path | None:
    """Return the file of a profile, or None if there is none."""
    if name.endswith(SUFFIXES):
        return Path(name)
    return next((path for folder in folders() if (path := folder / f"{name}.yaml").is_file()), None)


def load(path: Path) -> Tree:
    """Return the values that a profile sets, checked against the schema of ``cluster:``.

    Raises:
        UserError: the file does not exist, or has a key or value that is not allowed.
    """
    if not path.is_file():
        raise UserError(
            "no such profile", where=f"command line: cluster={path}", allowed=", ".join(names()) or "none yet"
        )
    locator, known = Locator(path, "", []), [item.name for item in fields(ClusterConfig)]
    loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    if not isinstance(loaded, dict) or not loaded:
        raise UserError("a profile is a mapping of keys", where=str(path), allowed=", ".join(known))
    values = {str(key): value for key, value in loaded.items()}
    for key, value in values.items():
        with located(locator.where), below(key):
            _check_key(key, value, known)
    return values


def _check_key(key: str, value: Node, known: Sequence[str]) -> None:
    if key not in known:
        raise UserError(f"unknown key '{key}'{nearest(key, known)}", allowed=", ".join(known))
    try:
        OmegaConf.merge(OmegaConf.structured(ClusterConfig), {key: value})
    except OmegaConfBaseException:
        allowed = FORMS.get(key, "see docs/slurm.md")
        raise UserError(f"{value!r} does not belong here", allowed=allowed) from None
    if value is not None:
        check_range(f"cluster.{key}", value)


def values_of(overrides: Sequence[str]) -> dict[str, Tree]:
    """Return the values that a cluster profile sets, by override and dotted key.

    Raises:
        UserError: there is no such profile, or it sets what is not allowed.
    """
    for override in filter(_names_a_profile, overrides):
        name = _cluster(override)
        path = find(name)
        if path is None:
            known = [*sorted(file.stem for file in (CONF / "cluster").glob("*.yaml")), *names()]
            where = ", ".join(f"{folder}/" for folder in folders())
            raise UserError(
                f"no cluster '{name}'{nearest(name, known)}",
                where=f"command line: {override}",
                allowed=f"{', '.join(known)}, or the path of a profile",
                next_command=f"a profile in {where} (docs/slurm.md)",
            )
        return {override: {f"cluster.{key}": value for key, value in load(path).items()}}
    return {}


def with_known_group(override: str) -> str:
    """Return the override; a cluster profile becomes ``cluster=slurm``, over which its values are set."""
    return "cluster=slurm" if _names_a_profile(override) else override


def _names_a_profile(override: str) -> bool:
    """Whether the override names a cluster that is none of those in ``harness/conf``."""
    return (
        override.lstrip("+").startswith("cluster=") and not (CONF / "cluster" / f"{_cluster(override)}.yaml").is_file()
    )


def _cluster(override: str) -> str:
    return override.lstrip("+").partition("=")[2]
