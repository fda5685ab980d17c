"""Checkpoints that survive a kill at any moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

import torch
from torch import Tensor
from torch.optim.optimizer import StateDict

from harness.files import atomic_write, link, room
from harness.ssl.losses.own_loss import OwnLossState
from harness.store.record import Attempt, Record


class TrainingState(TypedDict):
    """What a checkpoint holds: what must be known to go on after ``step``.

    ``results``: the accuracies of the initial encoder; ``seconds``, ``joules``: over all attempts; ``own_loss``: of a
    user's own loss. Older checkpoints hold no joules, and nothing of own losses.
    """

    method: dict[str, Tensor]
    optimizer: StateDict
    step: int
    loss_sum: Tensor
    probes: dict[str, list[Tensor]]
    results: dict[str, float]
    evaluation: Mapping[str, float | str | None]
    train_seconds: float
    seconds: float
    joules: NotRequired[dict[str, float]]
    own_loss: NotRequired[OwnLossState]


def save(attempt: Attempt, state: TrainingState) -> None:
    """Write the attempt's checkpoint; the previous one is kept until the next save.

    Raises:
        OSError: the disk is full, or cannot be written; nothing half-written is left.
    """
    path = attempt.checkpoint
    try:
        with atomic_write(path) as file:
            torch.save(state, file)
            if path.exists():
                attempt.previous_checkpoint.unlink(missing_ok=True)
                link(path, attempt.previous_checkpoint)
    except (OSError, RuntimeError) as error:  # torch's writer says only that it failed
        raise OSError(f"the checkpoint cannot be written, {room(path.parent)}") from error


def newest_checkpoint(record: Record) -> str:
    """Return the path of the newest checkpoint of any attempt; empty where there is none."""
    checkpoints = [attempt.checkpoint for attempt in record.attempts() if attempt.checkpoint.exists()]
    return str(checkpoints[-1]) if checkpoints else ""


def load_latest(record: Record, device: torch.device) -> TrainingState | None:
    """Return the newest readable checkpoint of any attempt; None where there is none."""
    for attempt in reversed(record.attempts()):
        for path in attempt.checkpoints:
            try:
                state: TrainingState = torch.load(path, map_location=device, weights_only=True)
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001  (torch.load has no error of its own for a damaged file)
                print(f"{path} cannot be read ({error}); trying an older one", flush=True)
                continue
            return state
    return None
