"""An interruption of a cell, tried on a user's own loss: a fresh process has to go on as if nothing had happened."""

from __future__ import annotations

import io
from collections.abc import Mapping

import torch
from torch import Tensor

from harness.catalog.losses import LossEntry
from harness.errors import UserError
from harness.ssl.losses.own_loss import OwnLoss
from harness.ssl.losses.random_views import random_views

#: A checkpoint is resumed after two steps: a counter would be the same after one step and after the first one resumed.
BEFORE, AFTER = 2, 2


def found_by_interruption(entry: LossEntry, parameters: Mapping[str, float], samples: int, width: int) -> str:
    """Return what is wrong when a checkpoint is resumed; nothing where all steps stay the same.

    The steps after it are taken twice: by the loss that took those before, and by a fresh import of its file.
    """
    batches = [random_views(entry, samples, width, seed) for seed in range(BEFORE + AFTER)]
    try:
        whole, resumed = OwnLoss(entry), OwnLoss(entry)
        for number in range(BEFORE):
            _step(whole, batches, number, parameters)
        file = io.BytesIO()
        torch.save(whole.checkpoint(), file)
        file.seek(0)
        resumed.resume(torch.load(file, weights_only=True))
        for number in range(BEFORE, BEFORE + AFTER):
            values = [_step(loss, batches, number, parameters) for loss in (whole, resumed)]
            if not torch.equal(*values):
                differ = f"step {number + 1} is {float(values[0]):.9g}, and {float(values[1]):.9g} in a fresh process"
                return f"{differ}: keep what a step changes in the dictionary state ({whole.with_state})"
    except UserError as error:
        return error.what + (f"; right: {error.allowed}" if error.allowed else "")
    except (Exception, SystemExit):  # noqa: BLE001  (who calls the loss otherwise says what it raises)
        return ""
    return ""


def _step(loss: OwnLoss, batches: list[tuple[Tensor, Tensor]], number: int, parameters: Mapping[str, float]) -> Tensor:
    loss.begin_step(0, number)
    z1, z2 = batches[number]
    return loss(z1, z2, **parameters).detach()
