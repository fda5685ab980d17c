"""The embedded MLflow store, named without importing mlflow."""

from __future__ import annotations

from pathlib import Path


def default_uri(results: Path) -> str:
    return f"sqlite:///{(results / 'mlflow.db').resolve()}"
