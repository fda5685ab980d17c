"""Which manifest, or which cells, a verb is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from harness.cli.arguments import short_names
from harness.errors import UserError
from harness.manifest import Manifest
from harness.record import Record

#: Enough of an id to tell cells apart.
CELL_ID = re.compile(r"[0-9a-f]{6,12}")


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


def named_cells(words: Sequence[str], results: Path) -> tuple[Manifest | None, list[tuple[str, Record]]]:
    """The cells of an experiment, named by what varies in it, with its manifest; or single cells, named by their ids.

    Args:
        words: an experiment as in ``manifest_name``, with its overrides; or the beginnings of cell ids.
        results: where manifests and records lie.

    Raises:
        UserError: there is no such experiment, or no such cell.
    """
    if all(CELL_ID.fullmatch(word) for word in words):
        records = [record_of(word, results) for word in words]
        return None, [(record.cell_id, record) for record in records]
    manifest = Manifest.read(results, manifest_name(words[0], words[1:]))
    cells = [(short_names(cell.axes, manifest.varying) or cell.cell_id, cell.cell_id) for cell in manifest.cells]
    return manifest, [(name, Record(results / "runs" / cell_id)) for name, cell_id in cells]


def record_of(beginning: str, results: Path) -> Record:
    """The one record whose cell id begins so.

    Raises:
        UserError: there is none, or there are several, or these are too few digits.
    """
    found = sorted((results / "runs").glob(f"{beginning}*")) if CELL_ID.fullmatch(beginning) else []
    if len(found) != 1:
        ids = f": {', '.join(path.name for path in found)}" if found else ""
        raise UserError(
            f"{len(found) or 'no'} cells begin with '{beginning}'{ids}",
            where=str(results / "runs"),
            allowed="6 to 12 hex digits of one cell's id; results/<experiment>.<scale>.csv lists them",
        )
    return Record(found[0])
