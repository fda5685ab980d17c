"""What ``harness bench`` measures is what it says; how fast it is, no test knows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from harness.cell import Backbone, Dataset, Head
from harness.ssl import losses
from harness.ssl.attempt import run_cell
from harness.ssl.measure import throughput, throughput_workers
from harness.store.record import Record

SMALL = replace(
    throughput.CONVNET, dataset=Dataset("cifar10", 8), backbone=Backbone("convnet", 4), head=Head(8, 8), batch_size=16
)


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "TRAIN", 256)


def test_the_first_round_warms_up_and_sides_take_turns() -> None:
    called: list[str] = []

    def side(name: str) -> float:
        called.append(name)
        return float(len(called))

    found = throughput.in_turn({"a": lambda: side("a"), "b": lambda: side("b")}, rounds=2)
    assert called == ["a", "b"] * 3
    assert found == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    row = throughput.ratio_of("x", "s", {"own": [1.0, 2.0, 9.0], "other": [2.0, 8.0, 9.0]}, 0.5)
    assert (row.measured, row.beside, row.beside_is, row.ratio) == (2.0, 8.0, "other", 0.5)


def test_the_loop_that_is_measured_trains_so_many_steps() -> None:
    with throughput.attempt_of(SMALL, throughput.CPU) as run:
        before = [parameter.clone() for parameter in run.method.parameters()]
        assert throughput.trained(run, 3) > 0
        assert run.step == 3
        assert throughput.trained(run, 2) > 0
        assert run.step == 2
        assert not all(map(torch.equal, before, run.method.parameters()))
        assert {event.metrics["loss"] > 0 for event in run.attempt.events() if "loss" in event.metrics} == {True}


def test_the_bare_step_is_one_of_the_same_network() -> None:
    with throughput.attempt_of(SMALL, throughput.CPU) as run:
        started = {name: value.clone() for name, value in run.network.state_dict().items()}
        seen = []
        build = throughput.models.build

        def kept(*words: object) -> object:
            seen.append(build(*words))  # type: ignore[arg-type]
            return seen[0]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(throughput.models, "build", kept)
            step = throughput.bare_step(SMALL, run.data, throughput.CPU)
        (network,) = seen
        assert all(torch.equal(value, started[name]) for name, value in network.state_dict().items())
        network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
        step(2)
        assert seen[1:] == [(2 * SMALL.batch_size, 3, 8, 8)] * 2


def test_the_plain_form_is_the_same_loss() -> None:
    z1, z2 = (normalize(torch.randn(16, 8, dtype=torch.float64), dim=1) for _ in range(2))
    own = losses.bind(throughput.Loss())(z1, z2)
    assert throughput.plain_infonce(z1, z2, 0.1) == pytest.approx(float(own), rel=1e-6)


def test_peak_memory_counts_what_lives_while_it_works() -> None:
    def wasteful(z1: torch.Tensor, z2: torch.Tensor) -> torch.Tensor:
        return (z1.sum() + z2.sum()) * torch.ones(32 * 2**20).mean()  # 128 MiB

    z1, z2 = (torch.randn(4, 4, requires_grad=True) for _ in range(2))
    _, peak = throughput.cost(wasteful, z1, z2)
    assert 120 < peak < 200


def test_without_a_gpu_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (row,) = throughput.gpu()
    assert row.measured is None
    assert "no GPU" in row.note


@pytest.mark.e2e
def test_a_cell_costs_less_in_a_worker_that_has_had_one() -> None:
    warm, cold = throughput_workers.start_seconds(warm=1, cold=1)
    assert 0 < warm[0] < cold[0], "a new one imports torch"


class Here(throughput_workers.Worker):
    """A worker that computes in this process."""

    def __init__(self, threads: int) -> None:
        self.threads, self.asked = threads, list[Record]()

    def __exit__(self, *error: object) -> None:
        assert all(record.outcome() for record in self.asked)

    def ask(self, record: Record) -> None:
        self.asked.append(record)

    def wait(self) -> None:
        run_cell(next(record for record in self.asked if not record.outcome()))


@pytest.mark.e2e
def test_cells_are_computed_side_by_side_and_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput_workers, "TRAIN", 160)
    monkeypatch.setattr(throughput_workers, "TEST", 40)
    monkeypatch.setattr(throughput_workers, "Worker", Here)
    cell = replace(SMALL, backbone=Backbone("convnet", 4), batch_size=64)
    with throughput_workers.sides(cell, 1) as sides:
        assert list(sides) == ["side by side", "one after another"]
        assert all(side() > 0 for side in sides.values())
        assert all(side() > 0 for side in sides.values()), "every round has cells of its own"
