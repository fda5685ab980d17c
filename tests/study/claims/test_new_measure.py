"""One entry in the catalogue is all that a new measure needs, from the declaration of a claim to its verdict."""

from __future__ import annotations

import pytest

from harness.errors import UserError
from harness.manifest import Claim
from harness.study.claims import measures
from harness.study.claims.measures import Accuracies, Contrast, Measure, MeasuredContrasts, TrueRange
from harness.study.claims.verdicts import judge
from harness.study.frame import tidy
from tests.support.synthetic import Synthetic, robust

DECLARED = "claims=[{{name: a, says: b, source: c, measure: mean_along, arms: ['loss=dcl', 'loss=infonce'], {more}}}]"
OVER = "over: batch_size, margin: {margin}"


def mean_along(claim: Claim, arms: Accuracies, margin: float) -> MeasuredContrasts:
    """The first arm's mean along the axis less the second's, in points."""
    (_, first), (_, second) = arms.items()
    contrast = Contrast("mean", first.mean(axis="columns"), second.mean(axis="columns"))
    return MeasuredContrasts([contrast], TrueRange(margin, measures.INFINITY), "the means differ")


@pytest.fixture(autouse=True)
def _entry(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Measure("the mean along the axis", mean_along, (2,), None, (2,), along=True, needs_positive_axis=True)
    monkeypatch.setitem(measures.MEASURES, "mean_along", entry)


def test_a_claim_with_a_new_measure_is_declared_and_judged(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, DECLARED.format(more=OVER.format(margin=0.5)))
    (verdict,) = judge(tidy(manifest, results)).verdicts
    assert verdict.label == "REPRODUCED"
    # InfoNCE loses 4 points at one of two batch sizes; DCL gains 0, 0.1 and 0.2 there.
    assert verdict.compared[0].values == pytest.approx([2.0, 2.05, 2.1])
    assert verdict.why == "the means differ"


@pytest.mark.parametrize("margin", [0, -1])
def test_its_margin_must_be_above_zero_because_the_entry_says_so(synthetic: Synthetic, margin: int) -> None:
    with pytest.raises(UserError, match="margin > 0"):
        synthetic(robust, DECLARED.format(more=OVER.format(margin=margin)))


@pytest.mark.parametrize(
    ("more", "message"),
    [("margin: 1", "is measured along an axis"), ("over: batch_size", "needs a margin")],
    ids=["axis", "margin"],
)
def test_what_its_claim_must_declare_follows_from_the_entry(synthetic: Synthetic, more: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        synthetic(robust, DECLARED.format(more=more))


def test_an_axis_that_holds_zero_is_refused_because_the_entry_says_so(synthetic: Synthetic) -> None:
    claim = DECLARED.format(more="at: 'batch_size=64', over: weight_decay, margin: 1")
    manifest, results = synthetic(robust, claim, "axes.weight_decay=[0.0,0.1]")
    (verdict,) = judge(tidy(manifest, results)).verdicts
    assert verdict.label == "NOT COMPARABLE"
    assert verdict.why == "mean_along takes values of weight decay above zero, and one of them is 0"
