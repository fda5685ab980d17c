"""Checkpoints that survive a kill at any moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import torch
from torch import Tensor
from torch.optim.optimizer import StateDict
from torch.serialization import MAP_LOCATION, default_restore_location
from torch.utils._pytree import tree_map_only

from harness.errors import DamagedFile, shortened
from harness.files import atomic_write, link, room
from harness.ssl.losses.own_loss import OwnLossState
from harness.store.checksum import Checksum, check_parts
from harness.store.record import Attempt, Record


class TrainingState(TypedDict):
    """What a checkpoint holds: what must be known to go on after ``step``.

    ``results``: the accuracies of the initial encoder; ``seconds``, ``joules``: over all attempts; ``own_loss``: of a
    user's own loss; ``events``: the checksums of the curve so far, by the paths of its files in the record. Older
    checkpoints hold no joules, nothing of own losses and no events.
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
    events: NotRequired[dict[str, str]]


@dataclass(frozen=True)
class Resumption:
    """The place from which an attempt goes on: ``state``, or the beginning if that is None.

    ``events``: the curve until then, by the paths of its files in the record; ``notes``: which damaged files it had to
    do without.
    """

    state: TrainingState | None
    events: dict[str, Checksum]
    notes: list[str]


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
    checkpoints = [attempt.checkpoint for attempt in record.attempts() if attempt.checkpoint.is_file()]
    return str(checkpoints[-1]) if checkpoints else ""


def load_latest(record: Record, device: torch.device) -> Resumption:
    """Return the newest whole checkpoint of any attempt whose curve is whole, too."""
    notes: list[str] = []
    for attempt in reversed(record.attempts()):
        for path in attempt.checkpoints:
            try:
                state = load(path, device)
                return Resumption(state, curve_of(attempt, state), notes)
            except FileNotFoundError:
                continue
            except DamagedFile as damaged:
                notes.append(damaged.sentence)
                print(f"{damaged.sentence}; trying an older one", flush=True)
    return Resumption(None, {}, notes)


def load(path: Path, device: torch.device) -> TrainingState:
    """Return a checkpoint, after the checksums of all its parts were compared, which torch does not do.

    Raises:
        FileNotFoundError: there is none.
        DamagedFile: it is damaged.
    """
    check_parts(path)
    try:
        state = _placed(torch.load(path, map_location=_leave_cpu(device), weights_only=True), device)
    except FileNotFoundError:
        raise
    except Exception as error:  # noqa: BLE001  (torch.load has no error of its own for a damaged file)
        raise DamagedFile(path, f"it cannot be read ({shortened(str(error), 100)})") from None
    return state


def _leave_cpu(device: torch.device) -> MAP_LOCATION:
    """Return torch's ``map_location`` that loads on this device what was not saved on the CPU."""
    return lambda storage, saved_on: storage if saved_on == "cpu" else default_restore_location(storage, str(device))


def _placed(state: TrainingState, device: torch.device) -> TrainingState:
    """Return the state on this device; what a user's loss kept on the CPU while it trained on a GPU stays there."""
    trained_on = next((tensor.device.type for tensor in state["method"].values()), device.type)
    stays = {"own_loss"} if trained_on == device.type else set()
    moved = {key: value if key in stays else tree_map_only(Tensor, lambda tensor: tensor.to(device), value)
             for key, value in state.items()}  # fmt: skip
    return cast("TrainingState", moved)


def curve_of(attempt: Attempt, state: TrainingState) -> dict[str, Checksum]:
    """Return the checksums of the curve that a checkpoint of this attempt continues, by path in the record.

    Raises:
        DamagedFile: the curve is not what it was then. What an older checkpoint does not say is taken as it is.
    """
    record = attempt.record
    if "events" not in state:
        until = [each for each in record.attempts() if each.number <= attempt.number]
        return {
            record.name_of(each.events_file): Checksum.of(each.events_file)
            for each in until
            if each.events_file.exists()
        }
    curve = {name: Checksum.parse(text) for name, text in state["events"].items()}
    for name, vouched in curve.items():
        vouched.check(record.path / name)
    return curve
