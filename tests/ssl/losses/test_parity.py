"""Parity with lightly, a library whose losses are maintained by others.

lightly normalises inside its contrastive losses, the losses here take what is normalised already: both are given the
same raw embeddings, so that gradients run through the normalisation. No definition differs otherwise. (lightly's DCL is
equation 6 since its pull request 1827; its default lambda of Barlow Twins is .005, the authors' code has .0051.)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

import harness.ssl  # noqa: F401  # before lightly: it makes torchvision's operators known where they are not built
from harness.ssl.losses.pairs import queued
from tests.support.loss_cases import free_views, gradients, loss_of

N, D = 12, 8
Loss = Callable[[Tensor, Tensor], Tensor]


def theirs(module: str, name: str, **parameters: Any) -> Loss:
    loss: Loss = getattr(importlib.import_module(f"lightly.loss.{module}"), name)(**parameters)
    return loss


def of_normalised(loss: Loss) -> Loss:
    return lambda z1, z2: loss(normalize(z1, dim=1), normalize(z2, dim=1))


def assert_parity(ours: Loss, others: Loss, dtype: torch.dtype = torch.float64) -> None:
    z1, z2 = (z.to(dtype) for z in free_views(N, D))
    tolerance = {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(ours(z1, z2), others(z1, z2), **tolerance)
    for our_gradient, other_gradient in zip(gradients(ours, z1, z2), gradients(others, z1, z2), strict=True):
        torch.testing.assert_close(our_gradient, other_gradient, **tolerance)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 2.0])
def test_infonce_is_lightlys_ntxent(temperature: float) -> None:
    ours = of_normalised(loss_of("infonce", N, temperature=temperature))
    assert_parity(ours, theirs("ntx_ent_loss", "NTXentLoss", temperature=temperature))


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 2.0])
def test_dcl_is_lightlys(temperature: float) -> None:
    ours = of_normalised(loss_of("dcl", N, temperature=temperature))
    assert_parity(ours, theirs("dcl_loss", "DCLLoss", temperature=temperature))


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
@pytest.mark.parametrize(("temperature", "sigma"), [(0.05, 0.5), (0.5, 0.5), (0.1, 2.0)])
def test_dclw_with_detached_weights_is_lightlys(temperature: float, sigma: float) -> None:
    ours = of_normalised(loss_of("dclw", N, temperature=temperature, sigma=sigma, detach_weights=True))
    assert_parity(ours, theirs("dcl_loss", "DCLWLoss", temperature=temperature, sigma=sigma))


def test_infonce_with_a_queue_is_lightlys_ntxent_with_a_memory_bank() -> None:
    # The bank is kept in fp32; it takes the keys in after this call has used it.
    bank = theirs("ntx_ent_loss", "NTXentLoss", temperature=0.2, memory_bank_size=(20, D))
    queue = bank.memory_bank.bank.clone()  # type: ignore[attr-defined]
    ours = of_normalised(loss_of("infonce", N, temperature=0.2, pairs=partial(queued, queue=queue)))
    assert_parity(ours, bank, torch.float32)


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_vicreg_is_lightlys(weights: tuple[float, float, float]) -> None:
    ours = loss_of("vicreg", N, **dict(zip(("invariance", "variance", "covariance"), weights, strict=True)))
    named = dict(zip(("lambda_param", "mu_param", "nu_param"), weights, strict=True))
    assert_parity(ours, theirs("vicreg_loss", "VICRegLoss", **named))


@pytest.mark.parametrize("redundancy", [0.0, 0.0051, 0.5])
def test_barlow_twins_is_lightlys(redundancy: float) -> None:
    ours = loss_of("barlow_twins", N, redundancy=redundancy)
    assert_parity(ours, theirs("barlow_twins_loss", "BarlowTwinsLoss", lambda_param=redundancy))
