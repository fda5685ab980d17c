"""An encoder's verdict in per cent, under the settings of an evaluation."""

from __future__ import annotations

from torch import Tensor, nn

from harness.evaluation import Evaluation
from harness.ssl.data.split import Data
from harness.ssl.evaluate.features import features
from harness.ssl.evaluate.knn import knn_accuracy
from harness.ssl.evaluate.linear_adam import adam_accuracy
from harness.ssl.evaluate.linear_lbfgs import linear_accuracy
from harness.ssl.evaluate.linear_sgd import sgd_accuracy


def judge(encoder: nn.Module, data: Data, evaluation: Evaluation, precision: str) -> dict[str, float]:
    """kNN and linear probe on the test images: ``{"knn": per cent, "linear": per cent}``."""
    bank = features(encoder, data.bank, data.mean, data.std, precision)
    test = features(encoder, data.test, data.mean, data.std, precision)
    rows = bank, data.bank.labels, test, data.test.labels
    return {
        "knn": knn_accuracy(*rows, k=evaluation.knn_k, temperature=evaluation.knn_temperature),
        "linear": _linear(encoder, data, rows, evaluation, precision),
    }


def _linear(
    encoder: nn.Module,
    data: Data,
    rows: tuple[Tensor, Tensor, Tensor, Tensor],
    evaluation: Evaluation,
    precision: str,
) -> float:
    if evaluation.linear == "lbfgs":
        assert evaluation.penalty is not None
        return linear_accuracy(*rows, penalty=evaluation.penalty)
    assert evaluation.linear_epochs is not None
    if evaluation.linear == "adam":
        return adam_accuracy(*rows, epochs=evaluation.linear_epochs)
    return sgd_accuracy(encoder, data, test=rows[2], epochs=evaluation.linear_epochs, precision=precision)
