"""Named evaluations."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.evaluation import Evaluation
from harness.sweep.declare import evaluation_presets
from harness.sweep.declare.compose import declare

NAMES = ("dkobak", "lightly", "lightly_linear", "simsiam", "solo_learn")


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_what_an_experiment_gets_by_its_name(tiny: Path, name: str) -> None:
    declared = declare(tiny, [f"evaluate={name}"]).evaluation
    assert declared == evaluation_presets.load(name)
    assert evaluation_presets.named(declared) == name


def test_presets_are_the_published_protocols() -> None:
    kept = {"linear": "lbfgs", "penalty": 1e-4}
    assert {name: evaluation_presets.load(name).final() for name in NAMES} == {
        "dkobak": {"knn_k": 10, "knn_temperature": None, "linear": "adam", "linear_epochs": 100},
        "lightly": {"knn_k": 200, "knn_temperature": 0.1, **kept},
        "lightly_linear": {"knn_k": 200, "knn_temperature": 0.1, "linear": "sgd", "linear_epochs": 90},
        "simsiam": {"knn_k": 200, "knn_temperature": 0.2, **kept},
        "solo_learn": {"knn_k": 20, "knn_temperature": 0.07, **kept},
    }


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no evaluation preset 'lightli', did you mean 'lightly'\?"):
        evaluation_presets.load("lightli")


def test_settings_of_nobody_have_no_name() -> None:
    assert evaluation_presets.named(Evaluation(knn_k=3)) is None
