"""Half-precision embeddings under autocast: similarities and sums are in fp32, and nothing overflows or cancels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.catalog.losses import LOSSES
from tests.support import oracles
from tests.support.loss_cases import NAMES, OF_PAIRS, defaults, gradients, loss_of, stored_state, views_of

N, D = 32, 16
HALVES = [torch.bfloat16, torch.float16]
WITH_TEMPERATURE = [name for name in NAMES if "temperature" in LOSSES[name].parameters]
SETTINGS = [(name, t) for name in WITH_TEMPERATURE for t in (0.05, 0.1, 1.0)]
SETTINGS += [(name, None) for name in NAMES if name not in WITH_TEMPERATURE]

#: Of the oracle's value of the same rounded embeddings. Without it one bf16 similarity is wrong by 4e-3 / temperature.
BOUND = 2e-5


def at(name: str, temperature: float | None) -> dict[str, float]:
    return {} if temperature is None else {"temperature": temperature}


def half_views(name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    z1, z2 = (view.to(dtype) for view in views_of(name, N, D))
    return z1, z2


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(("name", "temperature"), SETTINGS)
def test_values_under_autocast_are_those_of_fp32(name: str, temperature: float | None, dtype: torch.dtype) -> None:
    z1, z2 = half_views(name, dtype)
    with torch.autocast("cpu", dtype=dtype):
        value = loss_of(name, N, **at(name, temperature))(z1, z2)
    stored = {key: value.tolist() for key, value in stored_state(name, N).items()}
    parameters = defaults(name, **at(name, temperature), **stored)
    expected = oracles.VALUES[name](z1.double().tolist(), z2.double().tolist(), **parameters)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(expected, rel=BOUND, abs=BOUND)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_small_temperatures_leave_value_and_gradient_finite(name: str, dtype: torch.dtype) -> None:
    # exp(1 / .005) = 7e86: beyond fp16 and fp32, so that any unshifted exponential would show.
    loss = loss_of(name, N, **at(name, 0.005 if name in WITH_TEMPERATURE else None))
    z1, z2 = half_views(name, dtype)
    with torch.autocast("cpu", dtype=dtype):
        assert bool(loss(z1, z2).isfinite())
        for gradient in gradients(loss, z1, z2):
            assert bool(gradient.isfinite().all())
            assert bool(gradient.any())


@pytest.mark.parametrize("name", ["vicreg", "vicreg_exp", "vicreg_ctr", "barlow_twins", "spectral"])
def test_large_embeddings_do_not_overflow_fp16(name: str) -> None:
    # Sums of squares of entries near 300 exceed 65504, fp16's largest number.
    z1, z2 = (100 * view for view in half_views(name, torch.float16))
    assert float((z1.float().square().sum(0)).max()) > torch.finfo(torch.float16).max
    with torch.autocast("cpu", dtype=torch.float16):
        assert bool(loss_of(name, N)(z1, z2).isfinite())


@pytest.mark.parametrize("name", NAMES)
def test_fp32_embeddings_under_autocast_are_not_rounded_to_half(name: str) -> None:
    z1, z2 = (view.float() for view in views_of(name, N, D))
    outside = loss_of(name, N)(z1, z2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert bool(loss_of(name, N)(z1, z2) == outside)


@pytest.mark.parametrize("name", OF_PAIRS)
def test_gradients_keep_their_digits_where_positives_dominate(name: str) -> None:
    # 1 - softmax share of the positive is q = sigmoid(LSE(n) - p), here 1e-6: as a difference in fp32 it has no digits.
    base, *noise = torch.randn(3, 32, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z1, z2 = (normalize(base + 0.1 * n, dim=1).float() for n in noise)
    loss = loss_of(name, 32, temperature=0.05)
    for found, exact in zip(gradients(loss, z1, z2), gradients(loss, z1.double(), z2.double()), strict=True):
        assert float((found - exact).norm() / exact.norm()) < 1e-4
