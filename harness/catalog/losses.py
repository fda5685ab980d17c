"""The losses: names, equations, parameters, and the properties that tests hold them to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.catalog.parameters import INFINITY, Flag, Parameter, Range

#: The samples that an anchor is compared with. "pairs": the method chooses them; such a loss goes with every method.
Negatives = Literal["pairs", "both views", "other view", "same view", "none"]


@dataclass(frozen=True)
class SampleState:
    """A number that a loss keeps of each training image from step to step.

    ``name``: the argument in which the loss gets those of a batch, (N,); it returns (value, new numbers). ``initial``:
    the number of an image that no step has seen.
    """

    name: str
    initial: float


@dataclass(frozen=True)
class LossEntry:
    """A loss as users know it; ``label`` is its name in tables and plots.

    ``negatives``: what samples are compared with; ``symmetric``: swapping the views changes nothing; ``unit_norm``: it
    takes L2-normalised embeddings and refuses others; ``reduction``: what its value is the mean or sum of;
    ``distributed``: "anchors" where ranks may divide the anchors among them if each sees all candidates, "batch" where
    the statistics of the whole batch enter every term; ``identical``: to what it is identical, and when;
    ``cosine_logits``: it is a softmax over cosines divided by the temperature, so that shares of it mean something.

    ``stops_gradient``: its gradient is on purpose not that of its value; ``state``: what it keeps between steps, which
    only a method with ``every_loss`` gives it.

    ``file`` or installed ``module``, ``function``, ``source`` (a hash of the file): where a user's own loss comes from
    (``harness.plugins``); ``keeps_state``: it gets a dictionary that it keeps from step to step.
    """

    label: str
    paper: str
    equation: str
    parameters: Mapping[str, Parameter]
    negatives: Negatives = "pairs"
    symmetric: bool = True
    unit_norm: bool = True
    reduction: str = "mean over anchors"
    distributed: Literal["anchors", "batch"] = "anchors"
    identical: tuple[str, ...] = ()
    cosine_logits: bool = False
    stops_gradient: bool = False
    state: SampleState | None = None
    version: int = 1
    file: str = ""
    module: str = ""
    function: str = ""
    source: str = ""
    keeps_state: bool = False

    @property
    def argument(self) -> str:
        """Return the name of the loss as ``harness check-loss`` takes it."""
        return f"{self.file}:{self.function}" if self.file and not self.module else self.label


TEMPERATURE = Range(0.0, INFINITY, 0.1)

#: The weights of VICReg's three terms, in the paper.
_VICREG_WEIGHTS: dict[str, Parameter] = {
    "invariance": Range(0.0, INFINITY, 25.0, closed=True),
    "variance": Range(0.0, INFINITY, 25.0, closed=True),
    "covariance": Range(0.0, INFINITY, 1.0, closed=True),
}

# p: an anchor's similarity to its positive, n: those to its negatives, all over the temperature; LSE: log-sum-exp.
LOSSES = {
    "infonce": LossEntry(
        label="InfoNCE",
        paper="Chen et al. 2020, arXiv 2002.05709 (NT-Xent)",
        equation="LSE(p, n) - p",
        parameters={"temperature": TEMPERATURE},
        identical=("eqco with alpha = K", "dcl in the limit of many negatives"),
        cosine_logits=True,
        version=2,
    ),
    "dcl": LossEntry(
        label="DCL",
        paper="Yeh et al. 2022, arXiv 2110.06848, eq. 6",
        equation="LSE(n) - p",
        parameters={"temperature": TEMPERATURE},
        identical=(
            "flatnce, in every gradient",
            "infonce, each anchor's gradient divided by its q = 1 - softmax share of the positive",
            "eqco in the limit alpha -> infinity, in the gradient",
            "sogclr with gamma = 1, in the gradient",
            "dclw where all positives are equal",
        ),
        cosine_logits=True,
    ),
    "dclw": LossEntry(
        label="DCLW",
        paper="Yeh et al. 2022, arXiv 2110.06848, section 3",
        equation="LSE(n) - w p,  w_i = 2 - N softmax_i(<z1, z2> / sigma)",
        parameters={
            "temperature": TEMPERATURE,
            "sigma": Range(0.0, INFINITY, 0.5),
            "detach_weights": Flag(True),
        },
        distributed="batch",
        identical=("dcl where all positives are equal, or in the limit sigma -> infinity",),
        cosine_logits=True,
        stops_gradient=True,
        version=2,
    ),
    "eqco": LossEntry(
        label="EqCo",
        paper="Zhu et al. 2020, arXiv 2010.01929",
        equation="LSE(p, n + log(alpha / K)) - p,  K negatives an anchor",
        parameters={"temperature": TEMPERATURE, "alpha": Range(1.0, INFINITY, 256.0, closed=True)},
        identical=("infonce with alpha = K", "dcl in the limit alpha -> infinity, in the gradient"),
        cosine_logits=True,
    ),
    "flatnce": LossEntry(
        label="FlatNCE",
        paper="Chen et al. 2021, arXiv 2107.01152",
        equation="gradient of exp(v - stopgrad(v)),  v = LSE(n - p);  the value is InfoNCE's",
        parameters={"temperature": TEMPERATURE},
        identical=("dcl, in every gradient", "infonce, in the value"),
        cosine_logits=True,
        stops_gradient=True,
    ),
    "simclr_sq": LossEntry(
        label="SimCLR-sq",
        paper="Garrido et al. 2023, arXiv 2206.02574, proposition 3.2",
        equation="LSE(p, n) - p  of squared cosine similarities",
        parameters={"temperature": TEMPERATURE, "square_positive": Flag(True)},
    ),
    "simclr_abs": LossEntry(
        label="SimCLR-abs",
        paper="Garrido et al. 2023, arXiv 2206.02574, proposition 3.2",
        equation="LSE(p, n) - p  of absolute cosine similarities",
        parameters={"temperature": TEMPERATURE, "abs_positive": Flag(True)},
    ),
    "dcl_sq": LossEntry(
        label="DCL-sq",
        paper="Garrido et al. 2023, arXiv 2206.02574, proposition 3.2",
        equation="LSE(n) - p  of squared cosine similarities",
        parameters={"temperature": TEMPERATURE, "square_positive": Flag(True)},
    ),
    "dcl_abs": LossEntry(
        label="DCL-abs",
        paper="Garrido et al. 2023, arXiv 2206.02574, proposition 3.2",
        equation="LSE(n) - p  of absolute cosine similarities",
        parameters={"temperature": TEMPERATURE, "abs_positive": Flag(True)},
    ),
    "sogclr": LossEntry(
        label="SogCLR",
        paper="Yuan et al. 2022, arXiv 2202.12387",
        equation="gradient of mean_k stopgrad(exp(n_k) / u) n_k - p,  u <- (1 - gamma) u + gamma mean_k exp(n_k)",
        parameters={"temperature": TEMPERATURE, "gamma": Range(0.0, 1.0, 0.9, closed=True)},
        negatives="both views",
        distributed="batch",
        identical=("dcl with gamma = 1",),
        cosine_logits=True,
        stops_gradient=True,
        state=SampleState("log_u", initial=-INFINITY),
    ),
    "spectral": LossEntry(
        label="Spectral contrastive",
        paper="HaoChen et al. 2021, arXiv 2106.04156",
        equation="-2 mean_i <z1_i, z2_i> + sum_{i != j} <z1_i, z2_j>^2 / (N (N - 1)),  norms clipped to sqrt(mu)",
        parameters={"mu": Range(0.0, INFINITY, 1.0)},
        negatives="other view",
        unit_norm=False,
        reduction="mean over pairs",
    ),
    "vicreg": LossEntry(
        label="VICReg",
        paper="Bardes et al. 2022, arXiv 2105.04906",
        equation="invariance MSE(z1, z2) + variance mean_j relu(1 - sd_j) + covariance sum_{i != j} C_ij^2 / d",
        parameters=_VICREG_WEIGHTS,
        negatives="none",
        unit_norm=False,
        reduction="mean over samples and dimensions; variance: mean of the views; covariance: their sum",
        distributed="batch",
    ),
    "vicreg_exp": LossEntry(
        label="VICReg-exp",
        paper="Garrido et al. 2023, arXiv 2206.02574, eqs. 11 and 12",
        equation="VICReg with the covariance term  (1/d) sum_i log sum_{j != i} exp(C_ij / temperature)",
        parameters={
            "temperature": TEMPERATURE,
            **_VICREG_WEIGHTS,
        },
        negatives="none",
        unit_norm=False,
        reduction="mean over samples and dimensions; variance: mean of the views; covariance: their sum",
        distributed="batch",
    ),
    "vicreg_ctr": LossEntry(
        label="VICReg-ctr",
        paper="Garrido et al. 2023, arXiv 2206.02574, eq. 13",
        equation="VICReg-exp with variance and covariance of the transposed embeddings: between samples",
        parameters={
            "temperature": TEMPERATURE,
            **_VICREG_WEIGHTS,
            # The paper's weights could not be read. With invariance x temperature, samples attract and repel as much
            # as in DCL; with 1, short trainings collapsed.
            "covariance": Range(0.0, INFINITY, 2.5, closed=True),
            "unit_norm": Flag(False),
        },
        negatives="same view",
        unit_norm=False,
        reduction="mean over samples; variance: mean of the views; covariance: their sum",
        distributed="batch",
    ),
    "barlow_twins": LossEntry(
        label="Barlow Twins",
        paper="Zbontar et al. 2021, arXiv 2103.03230",
        equation="sum_i (1 - C_ii)^2 + redundancy sum_{i != j} C_ij^2,  C the views' cross-correlation",
        parameters={"redundancy": Range(0.0, INFINITY, 0.0051, closed=True)},
        negatives="none",
        unit_norm=False,
        reduction="sum over dimensions",
        distributed="batch",
    ),
}


def loss_label(name: str) -> str:
    """Return a loss's name in tables and plots; a user's own loss has no other than the declared one."""
    return LOSSES[name].label if name in LOSSES else name
