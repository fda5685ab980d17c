"""Whether an encoder has collapsed, by the diagnostics that a cell logs at every epoch."""

from __future__ import annotations

from collections.abc import Mapping

#: The embeddings' diagnostics, as ``harness.ssl.evaluate.diagnostics`` computes them.
DIAGNOSTICS = (
    "q_mean", "q_05", "q_95", "negatives_ess", "positive_similarity", "negative_similarity",
    "alignment", "uniformity", "effective_rank", "gradient_norm",
)  # fmt: skip

#: Uniformity of embeddings whose mean squared distance is .05, a mean cosine of .975.
ONE_POINT = -0.1
ONE_LINE = 1.5


def collapse(metrics: Mapping[str, float], initial: Mapping[str, float] | None = None) -> str:
    """Return why the embeddings of validation images count as collapsed; empty where they do not, or were not measured.

    Untrained embeddings, too, are nearly one point, and a head without batch norm leaves that slowly: an encoder that
    is better than at epoch 0 (``initial``) has not collapsed.
    """
    if initial and metrics.get("val_knn", 0.0) > initial.get("val_knn", 100.0):
        return ""
    if metrics.get("uniformity", -1.0) > ONE_POINT:
        return f"embeddings are nearly one point (uniformity {metrics['uniformity']:.2f})"
    if metrics.get("effective_rank", 2.0) < ONE_LINE:
        return f"embeddings lie nearly on one line (effective rank {metrics['effective_rank']:.1f})"
    return ""
