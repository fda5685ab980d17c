"""Published numbers beside measured ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.study.frame import tidy
from harness.study.papers.comparison import PublishedComparison, of_same_images
from harness.study.papers.published import Number, papers
from harness.study.statistics import Interval, mean_interval, prediction
from harness.study.table import ResultTable
from tests.support.synthetic import Synthetic, robust


def cifar(synthetic: Synthetic) -> ResultTable:
    """Return the table of InfoNCE and DCL at batch 128 and 512, as if they had been trained on CIFAR-10."""
    manifest, results = synthetic(robust, "axes.batch_size=[128,512]")
    settings = {**manifest.settings, "dataset": {**manifest.settings["dataset"], "name": "cifar10"}}
    return tidy(replace(manifest, settings=settings), results)


def test_a_number_stands_beside_the_arm_that_is_nearest(synthetic: Synthetic) -> None:
    (found,) = [one for one in of_same_images(cifar(synthetic)) if one.number.id == "simclr_dcl_c10_512_200"]
    assert (found.arm["loss"], found.arm["batch_size"]) == ("dcl", 512)
    assert found.measured.mean == pytest.approx(80.0, abs=0.2)
    assert "epochs 1 instead of 200" in found.differences
    assert "batch size" not in " ".join(found.differences)


def test_what_nobody_read_is_not_there(synthetic: Synthetic) -> None:
    unread = [one for paper in papers().values() for one in paper.numbers.values() if not one.published]
    assert unread, "there is one, of which only the setting is known"
    shown = of_same_images(cifar(synthetic))
    assert shown
    assert all(one.number.published and one.number.value for one in shown)


NUMBER = Number("paper", "id", "read-paper", "table 1", "test_knn", 83.0)


@pytest.mark.parametrize(
    ("value", "words"), [(81.0, "inside the range in which one more run is expected"), (90.0, "outside the range")]
)
def test_a_comparable_number_is_held_against_the_prediction_interval(value: float, words: str) -> None:
    values = [80.0, 81.0, 82.0]
    arm = {"loss": "dcl"}
    found = PublishedComparison(replace(NUMBER, value=value), arm, [], mean_interval(values), prediction(values))
    assert found.comparable
    assert words in found.summary
    # 81 +- 4.303 * 1 * sqrt(1 + 1/3)
    assert found.summary.endswith("(76.03 to 85.97)")


def test_what_is_not_comparable_is_compared_with_nothing() -> None:
    found = PublishedComparison(
        NUMBER, {"loss": "dcl"}, ["epochs 3 instead of 200"], Interval(1, 0, 2, 3), Interval(1, 0, 2, 3)
    )
    assert found.summary == "not comparable: epochs 3 instead of 200"
    assert (
        PublishedComparison(NUMBER, {}, [], mean_interval([]), mean_interval([])).summary
        == "no arm has this loss and method"
    )
