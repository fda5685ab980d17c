"""Checkpoints that survive a kill at any moment."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from harness.store.record import Record

NAME, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write to a temporary file, sync it, and rename it; the previous checkpoint is kept until the next save.

    Raises:
        OSError: the disk is full, or cannot be written; nothing half-written is left.
    """
    temporary = folder / f".{NAME}.new"
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch's writer says only that it failed
        temporary.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free // 2**20
        raise OSError(f"the checkpoint cannot be written, {free} MiB are free on the disk of {folder}") from error
    if (folder / NAME).exists():
        os.replace(folder / NAME, folder / PREVIOUS)
    os.replace(temporary, folder / NAME)


def newest(record: Record) -> str:
    """Return the path of the newest checkpoint of any attempt; empty where there is none."""
    found = [attempt.path / NAME for attempt in record.attempts() if (attempt.path / NAME).exists()]
    return str(found[-1]) if found else ""


def load_latest(record: Record, device: torch.device) -> dict[str, Any] | None:
    """Return the newest readable checkpoint of any attempt; None where there is none."""
    for attempt in reversed(record.attempts()):
        for name in (NAME, PREVIOUS):
            try:
                state: dict[str, Any] = torch.load(attempt.path / name, map_location=device, weights_only=True)
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001  (torch.load has no error of its own for a damaged file)
                print(f"{attempt.path / name} cannot be read ({error}); trying an older one", flush=True)
                continue
            return state
    return None
