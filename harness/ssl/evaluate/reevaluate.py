"""Evaluate a finished cell again: its trained encoder and its initial one, without training."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

import torch

from harness.cell import Dataset
from harness.errors import UserError
from harness.evaluation import Evaluation
from harness.ssl import encoder_file, models
from harness.ssl.compute_environment import compute_environment
from harness.ssl.data.split import Data
from harness.ssl.evaluate.protocol import judge
from harness.store.record import Record
from harness.trees import Node, Tree


def evaluate_again(
    record: Record,
    evaluation: Evaluation,
    dataset: Dataset,
    data: Data,
    device: torch.device,
    submission: Tree,
) -> tuple[dict[str, float], float]:
    """Add an evaluation to a finished record; return its metrics and the seconds that it took.

    Args:
        record: of a finished cell.
        evaluation: under these settings.
        dataset: describes ``data``: the cell's own data set, or another one.
        data: on the device.
        device: where to compute.
        submission: how this run was submitted, for the provenance.

    Raises:
        UserError: the record has no encoder, or a damaged one, or the images do not fit it.
    """
    started, cell, path = time.monotonic(), record.cell(), record.whole_encoder()
    if path is None:
        raise UserError("the record has no encoder", where=str(record.path / "attempts"))
    saved = encoder_file.load(path)
    if saved.channels != data.channels:
        raise UserError(f"the encoder takes images of {saved.channels} channels, {dataset.name} has {data.channels}")
    # Other images, too, pass through the encoder as the images did that it has learned from.
    data = replace(data, mean=saved.mean.to(device), std=saved.std.to(device))
    metrics: dict[str, float] = {}
    for prefix, encoder in (("test", saved.encoder), ("init", models.build(cell, saved.channels).encoder)):
        accuracies = judge(encoder.to(device), data, evaluation, cell.precision)
        metrics |= {f"{prefix}_{name}": value for name, value in accuracies.items()}
    settings = evaluation.final()
    seconds = time.monotonic() - started
    content: dict[str, Node] = {
        "settings": settings,
        "dataset": asdict(dataset),
        "metrics": metrics,
        "provenance": {**compute_environment(cell, device).to_json(), "submission": submission},
        "seconds": seconds,
    }
    record.add_evaluation(evaluation.key(dataset), content)
    return metrics, seconds
