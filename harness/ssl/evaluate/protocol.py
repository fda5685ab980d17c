"""How an encoder is judged: the settings of an evaluation, and its verdict in per cent."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from harness.ssl.data.sources import Data, Split
from harness.ssl.evaluate.features import features
from harness.ssl.evaluate.knn import knn_accuracy
from harness.ssl.evaluate.linear import linear_accuracy


@dataclass(frozen=True)
class Evaluation:
    """``knn_k`` neighbours, votes at ``knn_temperature``; ``penalty`` of the linear probe; a curve ``every`` epochs.

    ``curve_bank``: how many training images the curve's nearest neighbours are taken from (the test uses all).
    """

    knn_k: int
    knn_temperature: float
    penalty: float
    every: int
    curve_bank: int

    def knn(self, bank: Tensor, bank_labels: Tensor, queries: Tensor, split: Split) -> float:
        return knn_accuracy(bank, bank_labels, queries, split.labels, k=self.knn_k, temperature=self.knn_temperature)


def judge(encoder: nn.Module, data: Data, evaluation: Evaluation, precision: str) -> dict[str, float]:
    """kNN and linear probe on the test images: ``{"knn": per cent, "linear": per cent}``."""
    bank = features(encoder, data.bank, data.mean, data.std, precision)
    test = features(encoder, data.test, data.mean, data.std, precision)
    return {
        "knn": evaluation.knn(bank, data.bank.labels, test, data.test),
        "linear": linear_accuracy(bank, data.bank.labels, test, data.test.labels, penalty=evaluation.penalty),
    }
