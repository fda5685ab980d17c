"""No shape and no branch depends on a value: what CUDA graphs and a compiler without graph breaks need."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.ssl.losses.validation import skip_value_checks
from tests.support.loss_cases import NAMES, OF_PAIRS, PAIRS, gradients, kinds_of_pairs, loss_of, views_of

N, D = 6, 4
KINDS = [(name, "two_views") for name in NAMES] + [(name, kind) for name in OF_PAIRS for kind in PAIRS[1:]]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_shapes_follow_from_shapes(name: str, kind: str) -> None:
    # A fake tensor has no values: a look at one raises, and so does a shape that would need one.
    given = {"pairs": kinds_of_pairs(kind, N, D)[0]} if name in OF_PAIRS else {}
    loss = loss_of(name, N, **given)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, skip_value_checks():
        z1, z2 = (mode.from_tensor(z) for z in views_of(name, N, D))
        assert loss(z1, z2).shape == ()
        assert [gradient.shape for gradient in gradients(loss, z1, z2)] == [(N, D), (N, D)]


@pytest.mark.parametrize("name", NAMES)
def test_losses_compile_without_graph_breaks(name: str) -> None:
    loss = loss_of(name, N)
    views = views_of(name, N, D)
    torch.compiler.reset()  # its limit of recompilations is one for all losses
    with skip_value_checks():
        compiled = torch.compile(loss, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(*views), loss(*views))
