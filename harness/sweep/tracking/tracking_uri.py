"""Tracking stores by their names, without importing mlflow."""

from __future__ import annotations

import hashlib
from pathlib import Path


def default_uri(results: Path) -> str:
    """The store in a results folder."""
    return f"sqlite:///{(results / 'mlflow.db').resolve()}"


def embedded(uri: str) -> Path | None:
    """The file of a store that needs no server."""
    scheme = "sqlite:///"
    return Path(uri.removeprefix(scheme)) if uri.startswith(scheme) else None


def lock_folder(results: Path, uri: str) -> Path:
    """Where the writers of a store claim it: a folder beside the records, which all that mirror these records see.

    The store in the results folder has one name, wherever that folder is mounted.
    """
    own = uri == default_uri(results)
    return results / "mlflow-mirror" / ("here" if own else hashlib.sha256(uri.encode()).hexdigest()[:12])
