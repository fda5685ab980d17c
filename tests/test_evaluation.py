"""What an evaluation is: which settings count, and how two are told apart."""

from __future__ import annotations

from dataclasses import replace

from harness.cell import Dataset
from harness.evaluation import Evaluation

#: As records hold it that were evaluated before there was a choice of linear probes.
OLD = Evaluation.from_json({"knn_k": 20, "knn_temperature": 0.07, "penalty": 1e-4, "every": 1, "curve_bank": 10_000})
DIGITS = Dataset("digits", 8, 0.1, "0ea3daccd414c8b5")


def test_an_old_record_was_evaluated_with_the_probe_of_its_time() -> None:
    assert OLD.final() == Evaluation(knn_k=20, knn_temperature=0.07, linear="lbfgs", penalty=1e-4).final()
    assert OLD.key(DIGITS) == "ac9f5a9ea608"


def test_settings_of_the_curve_and_of_other_probes_do_not_count() -> None:
    assert replace(OLD, every=5, curve_bank=100, linear_epochs=7).final() == OLD.final()
    adam = Evaluation(linear="adam", linear_epochs=100)
    assert replace(adam, penalty=3.0).final() == adam.final()
    assert adam.final() != OLD.final()


def test_a_key_tells_settings_and_images_apart_but_not_how_a_number_is_written() -> None:
    assert replace(OLD, knn_temperature=1).key(DIGITS) == replace(OLD, knn_temperature=1.0).key(DIGITS)
    others = [
        replace(OLD, knn_temperature=None).key(DIGITS),
        replace(OLD, linear="sgd", linear_epochs=90).key(DIGITS),
        OLD.key(Dataset("digits", 8, 0.1, "another")),
        OLD.key(Dataset("fashion_mnist", 28, 0.1, DIGITS.fingerprint)),
    ]
    assert len({OLD.key(DIGITS), *others}) == 5
