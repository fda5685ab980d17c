"""Puts an evaluation into words."""

from __future__ import annotations

from harness.datasets import DATASETS
from harness.evaluation import Evaluation
from harness.manifest import Manifest


def described(evaluation: Evaluation) -> str:
    """Return two sentences: what the nearest neighbours are, and what the linear probe is."""
    temperature = evaluation.knn_temperature
    votes = "one vote each" if temperature is None else f"weights exp(cosine / {temperature:g})"
    probe = {
        "lbfgs": "logistic regression on frozen, standardised features, penalty {penalty:g}",
        "adam": "Adam on frozen features for {linear_epochs} epochs, the last of which counts",
        "sgd": "SGD on the frozen encoder's features of crops and flips for {linear_epochs} epochs, the last of which "
        "counts",
    }[evaluation.linear]
    return f"kNN: {evaluation.knn_k} neighbours by cosine, {votes}. Linear probe: {probe.format(**vars(evaluation))}."


def added(manifest: Manifest) -> str:
    """Say that the evaluation came after the sweep, and on which images; empty if it was the sweep's own."""
    if not manifest.preset:
        return ""
    sentence = f" This evaluation (preset {manifest.preset}) was added to the kept encoders; nothing was chosen by it."
    if manifest.on is None:
        return sentence
    images = f"{DATASETS[manifest.on.name].label}, fingerprint {manifest.on.fingerprint}"
    return f"{sentence} Its images are those of {images}, normalised as the training images were."
