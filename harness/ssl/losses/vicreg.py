"""VICReg (Bardes et al., ICLR 2022, arXiv 2105.04906)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, relu

from harness.ssl.losses.validation import validated_loss

EPSILON = 1e-4


@validated_loss
def vicreg(z1: Tensor, z2: Tensor, *, invariance: float, variance: float, covariance: float) -> Tensor:
    """``invariance MSE(z1, z2) + variance mean_j relu(1 - sd_j) + covariance sum_{i != j} C_ij^2 / d``.

    The variance term is the mean over the two views, the covariance term their sum, as in the authors' code.

    Args:
        z1, z2: (N, d), embeddings of two views, of any norm.
        invariance, variance, covariance: the terms' weights, 25, 25 and 1 in the paper.
    """
    return (
        invariance * mse_loss(z1, z2)
        + variance * (variance_hinge(z1) + variance_hinge(z2)) / 2
        + covariance * (_off_diagonal_energy(z1) + _off_diagonal_energy(z2))
    )


def variance_hinge(z: Tensor) -> Tensor:
    """``mean_j relu(1 - sqrt(var_j + 1e-4))`` over the columns of (N, d), eq. 1 of the paper."""
    return relu(1 - torch.sqrt(z.var(0) + EPSILON)).mean()


def covariance_matrix(z: Tensor) -> Tensor:
    """(d, d) covariances of the columns of (N, d)."""
    centred = z - z.mean(0)
    return centred.T @ centred / (z.shape[0] - 1)


def _off_diagonal_energy(z: Tensor) -> Tensor:
    c = covariance_matrix(z)
    return (c.square().sum() - c.diagonal().square().sum()) / z.shape[1]
