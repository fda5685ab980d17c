"""Diagnostics of the embeddings while a loss trains them, cheap enough for every epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.ssl.methods.batch import Comparison

#: Steps of an epoch that are measured; validation images behind alignment, uniformity and rank.
DIAGNOSTIC_STEPS, IMAGES = 8, 1024
UNIFORMITY_SCALE = 2.0


@dataclass
class StepDiagnostics:
    """Measurements of some steps of an epoch; tensors on the device, read once at the epoch's end."""

    q: list[Tensor] = field(default_factory=list)
    others: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def update(self, comparison: Comparison, temperature: float | None, gradient_norm: Tensor) -> None:
        """Add one step.

        ``q = 1 - softmax share of the positive`` is the factor that DCL takes out of InfoNCE's gradient (Yeh et al.
        2022, eq. 4); the effective sample size of an anchor's negatives is ``1 / sum_k w_k^2`` with ``w = softmax(n)``,
        that is ``exp(2 LSE(n) - LSE(2 n))``, from 1 to their number. A loss whose logits are not cosines over a
        temperature has neither.
        """
        first, second = (normalize(z.float(), dim=1) for z in (comparison.first, comparison.second))
        similarities = comparison.pairs(first, second)
        mean_negative = similarities.mean_negative()
        sample_size = torch.full_like(mean_negative, torch.nan)
        if temperature is not None:
            p, sums = similarities.log_sums(temperature)
            self.q.append(torch.sigmoid(sums - p))
            _, of_squares = similarities.log_sums(temperature / 2)
            sample_size = torch.exp(2 * sums - of_squares).mean()
        self.others.append(
            torch.stack([similarities.positives.mean(), mean_negative, sample_size, gradient_norm.to(mean_negative)])
        )

    def summary(self) -> dict[str, float]:
        """Return means over the steps; of q also the 5 % and 95 % quantiles over anchors."""
        names = ("positive_similarity", "negative_similarity", "negatives_ess", "gradient_norm")
        means = dict(zip(names, torch.stack(self.others).mean(0).tolist(), strict=True))
        if not self.q:
            del means["negatives_ess"]
            return means
        q = torch.cat(self.q)
        low, high = torch.quantile(q, torch.tensor([0.05, 0.95], device=q.device)).tolist()
        return {**means, "q_mean": float(q.mean()), "q_05": low, "q_95": high}


def geometry(z1: Tensor, z2: Tensor) -> dict[str, float]:
    """Measure two views' embeddings (n, d) of the same images, of any norm.

    alignment: mean squared distance of a sample's unit embeddings; uniformity: ``log mean exp(-2 |x - y|^2)`` over
    pairs of samples, 0 where all are one point (Wang and Isola 2020, arXiv 2005.10242); effective_rank: RankMe, the
    exponential of the entropy of the singular values' shares (Garrido et al. 2023, arXiv 2210.02885), of the embeddings
    as they come, 1 where all lie on one line.
    """
    u1, u2 = normalize(z1.float(), dim=1), normalize(z2.float(), dim=1)
    spread = torch.pdist(u1).square().mul(-UNIFORMITY_SCALE).exp().mean().log()
    shares = torch.linalg.svdvals(z1.double())
    shares = shares / shares.sum().clamp(min=torch.finfo(shares.dtype).tiny) + 1e-12
    return {
        "alignment": float((u1 - u2).square().sum(1).mean()),
        "uniformity": float(spread),
        "effective_rank": float(torch.exp(-(shares * shares.log()).sum())),
    }
