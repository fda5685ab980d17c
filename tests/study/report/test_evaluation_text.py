"""Evaluations in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cell import Dataset
from harness.evaluation import Evaluation
from harness.manifest import Manifest
from harness.study.frame import tidy
from harness.study.report.content import content, study
from harness.study.report.evaluation_text import described
from harness.sweep.declare import evaluation_presets


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        (
            "solo_learn",
            ["20 neighbours by cosine, weights exp(cosine / 0.07)", "logistic regression", "penalty 0.0001"],
        ),
        ("dkobak", ["10 neighbours by cosine, one vote each", "Adam on frozen features for 100 epochs"]),
        ("lightly_linear", ["weights exp(cosine / 0.1)", "crops and flips for 90 epochs"]),
    ],
)
def test_a_protocol_is_said_in_full(preset: str, words: list[str]) -> None:
    said = described(evaluation_presets.load(preset))
    assert all(word in said for word in words), said


def test_an_old_manifests_probe_is_that_of_its_time() -> None:
    old = {"knn_k": 20, "knn_temperature": 0.07, "penalty": 1e-4}
    assert described(Evaluation.from_json(old)) == described(evaluation_presets.load("solo_learn"))


def test_a_report_of_an_added_evaluation_says_so(synthetic: Callable[..., tuple[Manifest, Path]]) -> None:
    manifest, results = synthetic(lambda axes: 50.0)
    other = Dataset("fashion_mnist", 28, 0.1, "abc")
    added = manifest.evaluated("dkobak", evaluation_presets.load("dkobak"), other)
    table = tidy(added, results)
    assert set(table.frame["state"]) == {"missing"}, "finished, but not evaluated so"
    assert added.name == "tiny.demo.dkobak.fashion_mnist"
    printed = content(study(table))
    assert "one vote each" in printed.design.evaluation
    assert "was added to the kept encoders" in printed.design.evaluation
    assert "Fashion-MNIST, fingerprint abc" in printed.design.evaluation
    assert printed.dataset.endswith("evaluated on Fashion-MNIST")
    own = manifest.evaluated("dkobak", evaluation_presets.load("dkobak"), manifest.own_dataset)
    assert own.name == "tiny.demo.dkobak"
