"""A finished cell evaluated again: its kept encoder and its initial one, without training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch

from harness.cell import Dataset
from harness.errors import UserError
from harness.evaluation import Evaluation, final, key
from harness.files import Json
from harness.ssl import encoder_file, models
from harness.ssl.data.split import Data
from harness.ssl.evaluate.protocol import judge
from harness.ssl.provenance import provenance
from harness.store.record import Record


def evaluate_again(
    record: Record,
    evaluation: Evaluation,
    dataset: Dataset,
    data: Data,
    device: torch.device,
    submission: Mapping[str, Any],
) -> Json:
    """Add an evaluation to a finished record, and return what was added.

    Args:
        record: of a finished cell.
        evaluation: under these settings.
        dataset: what ``data`` are: the cell's own data set, or another one.
        data: on the device.
        device: where to compute.
        submission: how this was asked for, for the provenance.

    Raises:
        UserError: the record has no encoder, or the images do not fit it.
    """
    started, cell, path = time.monotonic(), record.cell(), record.encoder()
    if path is None:
        raise UserError("the encoder is not here", where=str(record.path / "attempts"))
    kept = encoder_file.load(path)
    if kept.channels != data.channels:
        raise UserError(f"the encoder takes images of {kept.channels} channels, {dataset.name} has {data.channels}")
    # Other images, too, pass through the encoder as the images did that it has learned from.
    data = replace(data, mean=kept.mean.to(device), std=kept.std.to(device))
    metrics: dict[str, float] = {}
    for prefix, encoder in (("test", kept.encoder), ("init", models.build(cell, kept.channels).encoder)):
        found = judge(encoder.to(device), data, evaluation, cell.precision)
        metrics |= {f"{prefix}_{name}": value for name, value in found.items()}
    settings = final(asdict(evaluation))
    content = {
        "settings": settings,
        "dataset": asdict(dataset),
        "metrics": metrics,
        "provenance": provenance(cell, submission, device),
        "seconds": time.monotonic() - started,
    }
    record.add_evaluation(key(settings, dataset), content)
    return content
