"""Diagnostics against their definitions, written as loops, and in a cell's record."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import normalize

from harness.cell import Loss, Optimizer
from harness.diagnostics import DIAGNOSTICS
from harness.ssl import train
from harness.ssl.attempt import run_cell
from harness.ssl.evaluate.diagnostics import StepDiagnostics, geometry
from harness.ssl.losses.pairs import Pairs, cross_view, queued, two_views
from harness.ssl.measure.step_cost import LiveTensorBytes
from harness.ssl.methods.batch import Batch, Comparison
from harness.store.record import Record

MakeRecord = Callable[..., Record]
OF_EMBEDDINGS = {"alignment", "uniformity", "effective_rank"}
OF_LOGITS = {"q_mean", "q_05", "q_95", "negatives_ess"}
COLUMNS = [0, 3, 7, 10]  # of the other keys of 12 queries


def random_views(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two views of n samples that resemble each other, of norms around 3."""
    generator = torch.Generator().manual_seed(seed)
    base, *noise = torch.randn(3, n, d, generator=generator)
    return 3 * (base + 0.5 * noise[0]) / math.sqrt(d), 3 * (base + 0.5 * noise[1]) / math.sqrt(d)


def unit(rows: Tensor) -> list[list[float]]:
    """Rows of norm 1, as Python's numbers."""
    return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows.double().tolist()]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def squared_distance(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def rank_me(z: Tensor) -> float:
    """Garrido et al. 2023, eqs. 1 and 2: exp of the entropy of the singular values' shares."""
    values = np.linalg.svd(z.double().numpy(), compute_uv=False)
    shares = [value / sum(values) for value in values]
    return math.exp(-sum(share * math.log(share) for share in shares if share > 1e-14))


def test_geometry_is_its_definitions_written_as_loops() -> None:
    z1, z2 = random_views(40, 6)
    found, u1, u2 = geometry(z1, z2), unit(z1), unit(z2)
    aligned = [squared_distance(a, b) for a, b in zip(u1, u2, strict=True)]
    apart = [math.exp(-2 * squared_distance(u1[i], u1[j])) for i in range(40) for j in range(i)]
    assert found["alignment"] == pytest.approx(sum(aligned) / len(aligned), rel=1e-5)
    assert found["uniformity"] == pytest.approx(math.log(sum(apart) / len(apart)), rel=1e-5)
    assert found["effective_rank"] == pytest.approx(rank_me(z1), rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.0], ids=["somewhere", "at the origin"])
def test_one_point_has_uniformity_0_and_rank_1(scale: float) -> None:
    z = scale * torch.tensor([[0.6, 0.8, 0.1]]).repeat(20, 1)
    found = geometry(z, z)
    assert found["uniformity"] == pytest.approx(0, abs=1e-6)
    assert found["alignment"] == pytest.approx(0, abs=1e-6)
    assert found["effective_rank"] == pytest.approx(1, abs=1e-6)


def test_points_on_one_line_have_rank_1_however_far_apart() -> None:
    z = torch.linspace(-2, 2, 20)[:, None] * torch.tensor([[0.6, 0.8, 0.1]])
    found = geometry(z, z)
    assert found["effective_rank"] == pytest.approx(1, abs=1e-4)
    assert found["uniformity"] < -0.5, "both directions of the line"


def test_uniform_embeddings_have_full_rank_and_the_spheres_uniformity() -> None:
    z = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    found = geometry(normalize(z, dim=1), normalize(-z, dim=1))
    # On the sphere in three dimensions |x - y|^2 = 2 - 2 t with t uniform on [-1, 1].
    assert found["uniformity"] == pytest.approx(math.log((1 - math.exp(-8)) / 8), abs=0.01)
    assert found["effective_rank"] == pytest.approx(3, abs=0.01)
    assert found["alignment"] == pytest.approx(4, abs=1e-4)


def test_orthogonal_directions_of_equal_strength_have_their_number_as_rank() -> None:
    assert geometry(torch.eye(5, 8), torch.eye(5, 8))["effective_rank"] == pytest.approx(5, rel=1e-6)


def looked_at(first: Tensor, second: Tensor, pairs: Pairs, temperature: float | None) -> dict[str, float]:
    """One step's diagnostics."""
    probes = StepDiagnostics()
    probes.update(Comparison(torch.zeros(()), first, second, pairs), temperature, torch.tensor(2.5))
    return probes.summary()


def anchors(kind: str, z1: Tensor, z2: Tensor, queue: Tensor) -> list[tuple[float, list[float]]]:
    """Of every anchor the cosine to its positive and those to its negatives."""
    u1, u2, keys = unit(z1), unit(z2), unit(queue)
    n = len(u1)
    if kind == "columns":
        others = [[j for j in range(n) if j != i] for i in range(n)]
        return [(dot(u1[i], u2[i]), [dot(u1[i], u2[others[i][c]]) for c in COLUMNS]) for i in range(n)]
    if kind == "queued":
        return [(dot(u1[i], u2[i]), [dot(u1[i], key) for key in keys]) for i in range(n)]
    if kind == "cross_view":
        return [(dot(u1[i], u2[i]), [dot(u1[i], u2[j]) for j in range(n) if j != i]) for i in range(n)]
    return [
        (dot(own[i], other[i]), [dot(own[i], view[j]) for view in (u1, u2) for j in range(n) if j != i])
        for own, other in ((u1, u2), (u2, u1))
        for i in range(n)
    ]


@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("kind", ["two_views", "cross_view", "columns", "queued"])
def test_a_look_at_a_step_is_its_definitions_written_as_loops(kind: str, temperature: float) -> None:
    (z1, z2), (queue, _) = random_views(12, 5), random_views(9, 5, seed=1)
    pairs: Pairs = {
        "two_views": two_views,
        "cross_view": cross_view,
        "columns": partial(cross_view, columns=torch.tensor(COLUMNS)),
        "queued": partial(queued, queue=normalize(queue, dim=1)),
    }[kind]
    found = looked_at(z1, z2, pairs, temperature)
    q, sizes, positives, negatives = [], [], [], []
    for positive, others in anchors(kind, z1, z2, queue):
        p, n = math.exp(positive / temperature), [math.exp(cosine / temperature) for cosine in others]
        q.append(1 - p / (p + sum(n)))
        sizes.append(1 / sum((weight / sum(n)) ** 2 for weight in n))
        positives.append(positive)
        negatives += others
    expected = {
        "q_mean": np.mean(q),
        "q_05": np.quantile(q, 0.05),
        "q_95": np.quantile(q, 0.95),
        "negatives_ess": np.mean(sizes),
        "positive_similarity": np.mean(positives),
        "negative_similarity": np.mean(negatives),
        "gradient_norm": 2.5,
    }
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_equal_negatives_count_in_full() -> None:
    rows = torch.eye(7)
    found = looked_at(rows, rows, cross_view, 0.1)
    assert found["negatives_ess"] == pytest.approx(6, rel=1e-6)
    assert found["q_mean"] == pytest.approx(6 / (6 + math.exp(10)), rel=1e-4)


def test_one_dominating_negative_counts_as_one() -> None:
    queries, queue = torch.eye(4, 8), torch.eye(4, 8)[[0, 1, 2, 3]]
    found = looked_at(queries, queries, partial(queued, queue=queue), 0.01)
    assert found["negatives_ess"] == pytest.approx(1, rel=1e-6)
    assert found["q_mean"] == pytest.approx(0.5, rel=1e-6), "it is as near as the positive"


@pytest.mark.e2e
@pytest.mark.parametrize("pairs", [two_views, cross_view])
def test_a_look_takes_no_matrix_of_cosines(pairs: Pairs) -> None:
    n = 8192
    with FakeTensorMode(), LiveTensorBytes(lambda size: "all") as live:
        first, second = torch.empty(n, 64), torch.empty(n, 64)
        StepDiagnostics().update(Comparison(torch.zeros(()), first, second, pairs), 0.1, torch.tensor(2.5))
    assert live.peak["all"] < 4 * n**2 / 4


def test_logits_that_are_no_cosines_have_neither_q_nor_sample_size() -> None:
    found = looked_at(*random_views(6, 4), two_views, None)
    assert found.keys() == {"positive_similarity", "negative_similarity", "gradient_norm"}


def test_an_epochs_diagnostics_are_means_over_its_steps() -> None:
    probes, steps = StepDiagnostics(), [random_views(6, 4, seed) for seed in (0, 1, 2)]
    for norm, (z1, z2) in enumerate(steps):
        probes.update(Comparison(torch.zeros(()), z1, z2, two_views), 0.2, torch.tensor(float(norm)))
    found, single = probes.summary(), [looked_at(z1, z2, two_views, 0.2) for z1, z2 in steps]
    assert found["gradient_norm"] == 1.0
    for name in ("q_mean", "negatives_ess", "positive_similarity", "negative_similarity"):
        assert found[name] == pytest.approx(np.mean([one[name] for one in single]), rel=1e-5)


def diagnostics(record: Record) -> list[dict[str, float]]:
    """Those of every event."""
    return [{name: value for name, value in event.metrics.items() if name in DIAGNOSTICS} for event in record.events()]


def test_a_trained_cell_logs_all_diagnostics_at_every_epoch(make_record: MakeRecord) -> None:
    record = make_record(every=5, epochs=3)
    run_cell(record)
    initial, *epochs = diagnostics(record)
    assert initial.keys() == OF_EMBEDDINGS
    assert len(epochs) == 3
    for found in epochs:
        assert found.keys() == set(DIAGNOSTICS)
        assert all(math.isfinite(value) for value in found.values())
        assert 0 < found["q_05"] <= found["q_mean"] <= found["q_95"] < 1
        assert 1 <= found["negatives_ess"] <= 2 * 64 - 2
        assert 1 <= found["effective_rank"] <= 16
        assert found["negative_similarity"] < found["positive_similarity"] <= 1


@pytest.mark.parametrize("loss", [Loss("vicreg", None, invariance=25.0, variance=25.0, covariance=1.0), Loss("dcl_sq")])
def test_a_loss_without_cosine_logits_logs_the_others(make_record: MakeRecord, loss: Loss) -> None:
    record = make_record(loss=loss, optimizer=Optimizer(lr=0.01), epochs=1)
    run_cell(record)
    assert diagnostics(record)[-1].keys() == set(DIAGNOSTICS) - OF_LOGITS


@pytest.mark.e2e
def test_a_stop_within_an_epoch_does_not_change_its_diagnostics(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, stopped = make_record("calm"), make_record("stopped")
    run_cell(calm)
    update = train.Trainer.update

    def stop_in_step_27(self: train.Trainer, batch: Batch) -> None:
        self.heartbeat.stop = "signal" if self.step == 26 else ""
        update(self, batch)

    monkeypatch.setattr(train.Trainer, "update", stop_in_step_27)
    with pytest.raises(train.Interrupted, match="step 27 of 40"):
        run_cell(stopped)
    monkeypatch.undo()
    torch.set_num_threads(1)
    run_cell(stopped)
    assert diagnostics(stopped) == diagnostics(calm)


def test_another_batch_size_changes_neither_the_images_nor_the_network_behind_the_geometry(
    make_record: MakeRecord,
) -> None:
    small, large = make_record(batch_size=64, epochs=1), make_record(batch_size=256, epochs=1)
    run_cell(small)
    run_cell(large)
    assert diagnostics(small)[0] == diagnostics(large)[0]
