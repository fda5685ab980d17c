"""The accuracies of an encoder under the settings of an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from harness.evaluation import LINEAR_PROBES, Evaluation
from harness.ssl.data.split import Data
from harness.ssl.evaluate.features import features
from harness.ssl.evaluate.knn import knn_accuracy
from harness.ssl.evaluate.linear_adam import adam_accuracy
from harness.ssl.evaluate.linear_lbfgs import linear_accuracy
from harness.ssl.evaluate.linear_sgd import sgd_accuracy


@dataclass(frozen=True)
class FrozenEncoder:
    """An encoder to judge, and its features in fp32 of the images: ``bank`` (n, f), ``test`` (m, f)."""

    encoder: nn.Module
    data: Data
    bank: Tensor
    test: Tensor
    precision: str

    @property
    def rows(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features and labels to learn from, and those to test on."""
        return self.bank, self.data.bank.labels, self.test, self.data.test.labels


#: The linear probes: an encoder, and the value of the setting that ``LINEAR_PROBES`` names -> per cent of test images.
PROBES: dict[str, Callable[[FrozenEncoder, float], float]] = {
    "lbfgs": lambda frozen, penalty: linear_accuracy(*frozen.rows, penalty=penalty),
    "adam": lambda frozen, epochs: adam_accuracy(*frozen.rows, epochs=int(epochs)),
    "sgd": lambda frozen, epochs: sgd_accuracy(
        frozen.encoder, frozen.data, test=frozen.test, epochs=int(epochs), precision=frozen.precision
    ),
}


def judge(encoder: nn.Module, data: Data, evaluation: Evaluation, precision: str) -> dict[str, float]:
    """Return the accuracies of kNN and linear probe on the test images: ``{"knn": per cent, "linear": per cent}``."""
    bank, test = (features(encoder, split, data.mean, data.std, precision) for split in (data.bank, data.test))
    frozen = FrozenEncoder(encoder, data, bank, test, precision)
    return {
        "knn": knn_accuracy(*frozen.rows, k=evaluation.knn_k, temperature=evaluation.knn_temperature),
        "linear": PROBES[evaluation.linear](frozen, getattr(evaluation, LINEAR_PROBES[evaluation.linear])),
    }
