"""What the URI of a tracking store says, read without importing mlflow."""

from __future__ import annotations

import hashlib
from pathlib import Path


def default_uri(results: Path) -> str:
    """Return the URI of the store in a results folder."""
    return f"sqlite:///{(results / 'mlflow.db').resolve()}"


def embedded(uri: str) -> Path | None:
    """Return the file of a store that needs no server; None for a server's URI."""
    scheme = "sqlite:///"
    return Path(uri.removeprefix(scheme)) if uri.startswith(scheme) else None


def lock_folder(results: Path, uri: str) -> Path:
    """Return the folder with the lock of a store's writers; it lies next to the records, so all their mirrors see it.

    The lock of the store in the results folder has the same name wherever that folder is mounted.
    """
    digest = hashlib.sha256(uri.encode(errors="surrogateescape")).hexdigest()[:12]
    return results / "mlflow-mirror" / ("here" if uri == default_uri(results) else digest)
