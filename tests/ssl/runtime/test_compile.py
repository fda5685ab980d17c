"""Compiled networks train what the others train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.cell import Backbone, Cell, Head, Method
from harness.errors import UserError
from harness.ssl import methods, models
from harness.ssl.attempt import run_cell
from harness.ssl.distributed import World
from harness.ssl.runtime.compile import compile_networks
from tests.support.training import MakeRecord

pytestmark = pytest.mark.e2e

CPU = torch.device("cpu")


def test_a_compiled_cell_trains_what_another_trains(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    compile_network = models.Network.compile
    monkeypatch.setattr(
        models.Network, "compile", lambda self, **how: calls.append(how) or compile_network(self, **how)
    )
    plain, compiled = (make_record(name, steps=6, epochs=1, bn_groups=2) for name in ("plain", "compiled"))
    run_cell(plain)
    assert not calls
    submission = compiled.submission()
    assert submission
    run_cell(compiled, replace(submission, run=replace(submission.run, compile=True)))
    assert calls == [{"mode": "default", "dynamic": False}]
    first, second = (record.events()[-1].metrics for record in (plain, compiled))
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-3)
    assert first["gradient_norm"] == pytest.approx(second["gradient_norm"], rel=1e-2)


@pytest.mark.parametrize(("device", "micro_batches", "mode"), [
    ("cuda", False, "reduce-overhead"), ("cuda", True, "default"), ("cpu", False, "default"),
])  # fmt: skip
def test_every_network_is_compiled_into_one_graph_where_its_outputs_may_live_in_it(
    device: str, micro_batches: bool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(models.Network, "compile", lambda self, **how: calls.append(how["mode"]))
    cell = Cell(method=Method("moco", queue=8, ema=0.9), backbone=Backbone("convnet", 4), head=Head(8, 6))
    method = methods.build(cell, models.build(cell, 1), 24, World())
    compile_networks(method, torch.device(device), micro_batches=micro_batches)
    assert calls == [mode, mode], "queries' and keys'"


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match="with a C\\+\\+ compiler"):
        compile_networks(torch.nn.Linear(1, 1), CPU, micro_batches=False)
