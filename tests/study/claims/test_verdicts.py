"""Verdicts from synthetic records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.study.claims.verdict_json import as_json
from harness.study.claims.verdicts import Verdict, judge
from harness.study.frame import tidy
from harness.study.report.abstract import abstract, answer
from tests.support.synthetic import Axes, Synthetic, logged, robust


def verdicts(synthetic: Synthetic, accuracy: Any, *overrides: str) -> list[Verdict]:
    manifest, results = synthetic(accuracy, *overrides)
    return judge(tidy(manifest, results)).verdicts


def claim(measure: str, arms: list[str], **more: object) -> str:
    """An override that makes this the only claim."""
    content = {"name": measure, "says": "So it is.", "source": "nowhere", "measure": measure, **more}
    fields = [f"{key}: {f'{value!r}' if isinstance(value, str) else value}" for key, value in content.items()]
    return f"claims=[{{{', '.join(fields)}, arms: {arms}}}]"


def test_a_clear_advantage_is_reproduced_and_measured(synthetic: Synthetic) -> None:
    (verdict,) = verdicts(synthetic, robust)
    assert verdict.label == "REPRODUCED"
    # Seeds are paired: differences are 4.0, 4.1, 4.2, whatever the seeds' common shifts.
    assert verdict.compared[0].values == pytest.approx([4.0, 4.1, 4.2])
    assert (verdict.measured.mean, verdict.measured.n, verdict.paired) == (pytest.approx(4.1), 3, True)
    assert verdict.why == "from batch size 256 to 64, DCL changes by +0.10 and InfoNCE changes by −4.00 points"
    assert verdict.next_step == "nothing more in this setting"
    assert answer([verdict]).startswith("Yes, as measured here. From batch size 256 to 64, DCL changes by +0.10")
    assert answer([verdict]).endswith(
        "loss of InfoNCE − loss of DCL is +4.10 points, 95 % interval [+3.85, +4.35], 3 seeds."
    )


def test_the_opposite_is_contradicted(synthetic: Synthetic) -> None:
    (verdict,) = verdicts(synthetic, lambda axes: robust(axes, advantage=-4.0))
    assert verdict.label == "CONTRADICTED"
    assert "InfoNCE changes by +4.00 points" in verdict.why


def test_no_effect_is_inconclusive_and_says_how_many_seeds_would_do(synthetic: Synthetic) -> None:
    (verdict,) = verdicts(synthetic, lambda axes: robust(axes, advantage=0.0))
    assert verdict.label == "INCONCLUSIVE"
    # 0, .1, .2: the mean is one standard deviation from 0. By G*Power, 10 seeds give a power of .80 (one-sided .025).
    assert verdict.next_step == "about 10 seeds per arm instead of 3, if the mean does not change"


def test_two_seeds_decide_nothing_however_clear(synthetic: Synthetic) -> None:
    (verdict,) = verdicts(synthetic, robust, "axes.seed=[0,1]")
    assert (verdict.label, verdict.next_step) == ("INCONCLUSIVE", "at least 1 seed more of every arm")


def test_a_missing_cell_leaves_the_claim_incomplete(synthetic: Synthetic) -> None:
    missing = {"loss": "dcl", "batch_size": 64, "seed": 1}
    (verdict,) = verdicts(synthetic, lambda axes: None if missing.items() <= axes.items() else robust(axes))
    assert (verdict.label, verdict.why) == ("INCOMPLETE", "11 of 12 cells have finished")
    assert verdict.next_step == "the other 1 cell"


def test_cells_that_a_claim_is_not_about_may_be_missing(synthetic: Synthetic) -> None:
    def accuracy(axes: Axes) -> float | None:
        return None if axes["batch_size"] == 128 else robust(axes)

    assert verdicts(synthetic, accuracy, "axes.batch_size=[64,128,256]")[0].label == "REPRODUCED"


def test_a_caveat_leaves_the_verdict(synthetic: Synthetic) -> None:
    assert verdicts(synthetic, robust, "caveat='small nets'")[0].label == "REPRODUCED"


def test_a_scale_that_is_not_comparable_is_measured_but_decides_nothing(synthetic: Synthetic) -> None:
    (verdict,) = verdicts(synthetic, robust, "comparable=false", "caveat='toys'")
    assert verdict.label == "NOT COMPARABLE"
    assert verdict.why.endswith("but toys")
    assert answer([verdict]).startswith("These cells cannot decide it: toys. From batch size 256 to 64, DCL changes by")


@pytest.mark.parametrize(("override", "why"), [("axes.loss=[infonce]", "DCL"), ("axes.batch_size=[64]", "two values")])
def test_a_claim_about_arms_that_were_cut_away_says_so(synthetic: Synthetic, override: str, why: str) -> None:
    (verdict,) = verdicts(synthetic, robust, override)
    assert verdict.label == "NOT COMPARABLE"
    assert why in verdict.why
    assert answer([verdict]) == f"These cells cannot decide it: {verdict.why}."


def test_a_claim_about_other_cells_says_which(synthetic: Synthetic) -> None:
    long = claim("difference", ["loss=dcl", "loss=infonce"], at="batch_size=64", comparable="epochs>=100")
    (verdict,) = verdicts(synthetic, robust, long)
    assert (verdict.label, verdict.reservation) == ("NOT COMPARABLE", "the claim is about epochs>=100")
    assert (verdict.measured.n, verdict.next_step) == (3, "cells with epochs>=100")


def test_each_setting_is_judged_by_itself(synthetic: Synthetic) -> None:
    def only_at_low_temperature(axes: Axes) -> float:
        return robust(axes, advantage=4.0 if axes["temperature"] == 0.1 else -4.0)

    found = verdicts(synthetic, only_at_low_temperature, "axes.temperature=[0.1,0.5]")
    assert [(v.setting, v.label) for v in found] == [
        ({"temperature": 0.1}, "REPRODUCED"),
        ({"temperature": 0.5}, "CONTRADICTED"),
    ]
    said = answer(found)
    assert said.startswith("Of 2 settings")
    assert said.endswith("is REPRODUCED in 1, CONTRADICTED in 1.")


OF_DCLW = claim("drop", ["loss=dclw", "loss=infonce"], over="batch_size")


@pytest.mark.parametrize("sigmas", [[0.5], [0.3, 0.5]])
def test_a_loss_is_compared_with_one_that_lacks_its_parameter(synthetic: Synthetic, sigmas: list[float]) -> None:
    grids = ["grids.a={loss:[infonce]}", f"grids.b={{loss:[dclw],sigma:{sigmas}}}".replace(" ", "")]
    found = verdicts(synthetic, robust, "~axes.loss", *grids, OF_DCLW)
    settings = [{"sigma": sigma} for sigma in sigmas] if len(sigmas) > 1 else [{}]
    assert [(v.setting, v.label) for v in found] == [(setting, "REPRODUCED") for setting in settings]


def test_a_claim_is_not_judged_in_settings_that_neither_arm_has(synthetic: Synthetic) -> None:
    (verdict,) = verdicts(synthetic, robust, "grids.a={}", "grids.b={loss:[eqco],alpha:[16,256]}")
    assert verdict.label == "REPRODUCED"


def test_an_axis_that_varies_with_the_claims_own_makes_no_settings(synthetic: Synthetic) -> None:
    zipped = "zip=[{batch_size:[64,256],momentum:[0.8,0.9]}]"
    (verdict,) = verdicts(synthetic, robust, "~axes.batch_size", zipped)
    assert (verdict.setting, verdict.label) == ({}, "REPRODUCED")


def test_arms_may_differ_in_any_field(synthetic: Synthetic) -> None:
    """DCL after 2 epochs reaches what InfoNCE has after 4."""
    arms = {("dcl", 2): 80.1, ("dcl", 4): 82.0, ("infonce", 2): 76.0, ("infonce", 4): 80.0}

    def accuracy(axes: Axes) -> float:
        return arms[axes["loss"], axes["epochs"]] + axes["seed"] * (1.01 if axes["loss"] == "dcl" else 1.0)

    half = claim("difference", ["loss=dcl epochs=2", "loss=infonce epochs=4"])
    found = verdicts(synthetic, accuracy, "axes.epochs=[2,4]", half)
    assert [(verdict.setting, verdict.label) for verdict in found] == [
        ({"batch_size": 64}, "REPRODUCED"),
        ({"batch_size": 256}, "REPRODUCED"),
    ]
    assert found[0].summary == "DCL, epochs 2 has 81.11 and InfoNCE, epochs 4 has 81.00"


NOISE = {0: 0.0, 1: 0.3, 2: -0.2, 3: 0.1, 4: -0.3}
FIVE = "axes.seed=[0,1,2,3,4]"


def near(axes: Axes, **gains: float) -> float:
    """Seeds move all arms together, and each a little apart."""
    own = sum(map(ord, axes["loss"])) + axes["batch_size"] + 7 * axes["seed"]
    return 80.0 + NOISE[axes["seed"]] + (own % 5) * 0.02 + gains.get(axes["loss"], 0.0)


@pytest.mark.parametrize(("gain", "word"), [(0.0, "REPRODUCED"), (0.5, "INCONCLUSIVE"), (2.0, "CONTRADICTED"),
                                            (-2.0, "CONTRADICTED")])  # fmt: skip
def test_equality_is_within_a_margin_on_both_sides(synthetic: Synthetic, gain: float, word: str) -> None:
    same = claim("equality", ["loss=flatnce", "loss=dcl"], at="batch_size=64", margin=0.5)
    (verdict,) = verdicts(synthetic, lambda axes: near(axes, dcl=gain), "axes.loss=[dcl,flatnce]", FIVE, same)
    assert verdict.label == word


def test_arms_that_are_equal_to_the_last_digit_are_equal_and_neither_is_better(synthetic: Synthetic) -> None:
    """Whether or not other arms say that seeds are paired."""
    seeds = {64: [80.0, 81.0, 79.0], 256: [79.0, 80.0, 81.0]}
    arms = ["loss=flatnce", "loss=dcl"]
    for measure, more, word in (("equality", {"margin": 0.5}, "REPRODUCED"), ("difference", {}, "INCONCLUSIVE")):
        made = claim(measure, arms, at="batch_size=64", **more)
        accuracy = lambda axes: seeds[axes["batch_size"]][axes["seed"]]  # noqa: E731
        (verdict,) = verdicts(synthetic, accuracy, "axes.loss=[dcl,flatnce]", made)
        assert (verdict.label, verdict.measured.low, verdict.measured.high) == (word, 0, 0)
    assert verdict.next_step == "nothing: the estimate lies exactly on the bound"


@pytest.mark.parametrize(("bent", "word"), [(0.0, "REPRODUCED"), (3.0, "CONTRADICTED"), (0.6, "INCONCLUSIVE")])
def test_flat_is_no_two_values_apart_by_more_than_the_margin(synthetic: Synthetic, bent: float, word: str) -> None:
    def accuracy(axes: Axes) -> float:
        return near(axes) + (bent if axes["batch_size"] == 128 else 0.0)

    flat = claim("spread", ["loss=dcl"], over="batch_size", margin=0.6)
    (verdict,) = verdicts(synthetic, accuracy, "axes.batch_size=[64,128,256]", FIVE, flat)
    assert verdict.label == word
    assert [one.label for one in verdict.compared] == [
        "batch size 64 − 128",
        "batch size 64 − 256",
        "batch size 128 − 256",
    ]
    if bent:
        assert "128" in verdict.compared[verdict.deciding].label


def test_an_ordering_holds_where_every_step_does(synthetic: Synthetic) -> None:
    order = claim("ordering", ["loss=dclw", "loss=dcl", "loss=infonce"], at="batch_size=64")
    losses = "axes.loss=[infonce,dcl,dclw]"
    (verdict,) = verdicts(synthetic, lambda axes: near(axes, dclw=4.0, dcl=2.0), losses, FIVE, order)
    assert verdict.label == "REPRODUCED"
    (verdict,) = verdicts(synthetic, lambda axes: near(axes, dclw=2.0, dcl=4.0), losses, FIVE, order)
    assert (verdict.label, verdict.compared[verdict.deciding].label) == ("CONTRADICTED", "DCLW − DCL")


def test_a_ratio_is_of_accuracies(synthetic: Synthetic) -> None:
    keeps = claim("ratio", ["loss=dcl batch_size=64", "loss=dcl batch_size=256"], margin=0.9)

    def accuracy(axes: Axes) -> float:
        return near(axes) * (0.95 if axes["batch_size"] == 64 else 1.0)

    (verdict,) = verdicts(synthetic, accuracy, FIVE, keeps)
    assert (verdict.label, verdict.unit) == ("REPRODUCED", "times")
    assert verdict.measured.mean == pytest.approx(0.95, abs=1e-3)
    assert verdict.true is not None
    assert verdict.true.low == pytest.approx(0.9)


def test_a_slope_is_points_for_a_doubling(synthetic: Synthetic) -> None:
    doublings = {64: 0, 128: 1, 256: 2}
    sizes = "axes.batch_size=[64,128,256]"

    def accuracy(axes: Axes) -> float:
        return near(axes) + (0.5 if axes["loss"] == "dcl" else 2.0) * doublings[axes["batch_size"]]

    steeper = claim("slope", ["loss=dcl", "loss=infonce"], over="batch_size", margin=1)
    (verdict,) = verdicts(synthetic, accuracy, sizes, FIVE, steeper)
    assert (verdict.label, round(verdict.measured.mean, 1)) == ("REPRODUCED", 1.5)
    flat = claim("slope", ["loss=infonce"], over="batch_size", margin=1)
    (verdict,) = verdicts(synthetic, accuracy, sizes, FIVE, flat)
    assert (verdict.label, round(verdict.measured.mean, 1)) == ("CONTRADICTED", 2.0)


def test_a_drop_is_from_the_best_value_where_it_is_said_so(synthetic: Synthetic) -> None:
    def accuracy(axes: Axes) -> float:
        return near(axes) + {64: 0.0, 128: 5.0, 256: 1.0}[axes["batch_size"]]

    sizes = "axes.batch_size=[64,128,256]"
    for measure, word in (("drop", "REPRODUCED"), ("drop_from_best", "CONTRADICTED")):
        little = claim(measure, ["loss=dcl"], over="batch_size", margin=2)
        assert verdicts(synthetic, accuracy, sizes, FIVE, little)[0].label == word
    (verdict,) = verdicts(synthetic, accuracy, sizes, FIVE, little)
    assert verdict.summary == "down to batch size 64, DCL is best at 128 and changes by −5.00 points from there"
    assert [one.label for one in verdict.compared] == ["batch size 128 − 64", "batch size 256 − 64"]


def test_an_arm_that_looks_best_at_the_smallest_value_may_lose_all_the_same(synthetic: Synthetic) -> None:
    """What is best is chosen by noise where nothing differs; then nothing is shown."""
    noisy = {64: [70.0, 75.0, 72.0], 256: [71.0, 74.0, 71.5]}
    little = claim("drop_from_best", ["loss=dcl"], over="batch_size", margin=0.5)
    (verdict,) = verdicts(synthetic, lambda axes: noisy[axes["batch_size"]][axes["seed"]], little)
    assert verdict.label == "INCONCLUSIVE"


def test_only_seeds_that_every_value_of_the_axis_has_are_compared(synthetic: Synthetic) -> None:
    """A value that lacks seeds must not fall out of a comparison unseen."""
    grids = ["~axes.batch_size", "~axes.seed", "grids.a={batch_size:[64,128],seed:[0,1,2,3,4]}",
             "grids.b={batch_size:[256],seed:[0,1,2]}"]  # fmt: skip
    flat = claim("spread", ["loss=dcl"], over="batch_size", margin=6)

    def accuracy(axes: Axes) -> float:
        return near(axes) - (30.0 if axes["batch_size"] == 256 else 0.0)

    (verdict,) = verdicts(synthetic, accuracy, *grids, flat)
    assert (verdict.label, verdict.measured.n) == ("CONTRADICTED", 3)


def test_sizes_are_compared_by_order(synthetic: Synthetic) -> None:
    large = claim("difference", ["loss=dcl", "loss=infonce"], at="batch_size>=256", comparable="batch_size>64")
    (verdict,) = verdicts(synthetic, robust, large)
    assert (verdict.setting, verdict.reservation) == ({}, "")


def test_a_claim_that_these_cells_are_not_about_widens_no_other(synthetic: Synthetic) -> None:
    other = AT_64.replace("name: 'difference'", "name: other").replace("arms:", "comparable: 'epochs>9', arms:")
    found = verdicts(synthetic, robust, AT_64[:-1] + ", " + other.removeprefix("claims=["))
    assert [(verdict.label, verdict.level) for verdict in found] == [
        ("REPRODUCED", pytest.approx(0.95)),
        ("NOT COMPARABLE", pytest.approx(0.95)),
    ]


AT_64 = claim("difference", ["loss=dcl", "loss=infonce"], at="batch_size=64")
TWO = AT_64[:-1] + ", " + AT_64.removeprefix("claims=[").replace("64", "256").replace("name: 'difference'", "name: b")


def test_the_more_claims_the_wider_the_intervals(synthetic: Synthetic) -> None:
    """Holm: the smaller p is held against 2.5 %, and where it passes, the other against 5 %."""

    def accuracy(axes: Axes) -> float:
        return robust(axes, advantage=0.5)

    found = verdicts(synthetic, accuracy, TWO)
    assert [verdict.level for verdict in found] == pytest.approx([0.975, 0.95])
    alone = verdicts(synthetic, accuracy, AT_64)
    assert alone[0].level == pytest.approx(0.95)
    assert found[0].measured.low < alone[0].measured.low
    assert found[0].compared[0].interval_95 == alone[0].compared[0].interval_95


def test_a_claim_that_waits_for_cells_counts_in_the_family(synthetic: Synthetic) -> None:
    def accuracy(axes: Axes) -> float | None:
        return None if axes["batch_size"] == 256 and axes["seed"] == 0 else robust(axes)

    decided, waiting = verdicts(synthetic, accuracy, TWO)
    assert (waiting.label, decided.level) == ("INCOMPLETE", pytest.approx(0.975))


def test_seeds_that_do_not_move_the_arms_together_are_not_paired(synthetic: Synthetic) -> None:
    shuffled: dict[tuple[str, int], list[float]] = {
        ("dcl", 64): [1, 2, 3, 4, 5], ("dcl", 256): [3, 1, 5, 2, 4],
        ("infonce", 64): [4, 5, 1, 3, 2], ("infonce", 256): [2, 4, 3, 5, 1],
    }  # fmt: skip
    manifest, results = synthetic(lambda axes: 50 + shuffled[axes["loss"], axes["batch_size"]][axes["seed"]], FIVE)
    judged = judge(tidy(manifest, results))
    assert not judged.effects["test_knn"].paired
    assert judged.verdicts[0].paired is False
    manifest, results = synthetic(lambda axes: 50.0 + axes["seed"] + (axes["loss"] == "dcl"), FIVE)
    assert judge(tidy(manifest, results)).effects["test_knn"].correlation == pytest.approx(1)


def test_cells_on_different_hardware_and_of_several_revisions_are_flagged(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust)
    table = tidy(manifest, results)
    (verdict,) = judge(table).verdicts
    assert "hardware" not in verdict.why
    elsewhere = (table.frame["loss"] == "dcl") & (table.frame["batch_size"] == 64) & (table.frame["seed"] == 1)
    table.frame.loc[elsewhere, "hardware"] = "another processor"
    table.frame.loc[elsewhere, "revision"] = "1" * 40
    (verdict,) = judge(table).verdicts
    assert "in 1 of 3 seeds the cells ran on different hardware" in verdict.why
    assert verdict.why.endswith("the cells ran with 2 revisions of the code")


def flat(of: Callable[[Axes], bool]) -> dict[str, Callable[[Axes], float]]:
    """Diagnostics of cells that collapsed."""
    return {"uniformity": lambda axes: -0.01 if of(axes) else -2.0, "val_knn": lambda axes: 0.0}


def test_an_arm_that_collapsed_keeps_nothing(synthetic: Synthetic) -> None:
    """It loses less than any other: there is nothing that it could lose."""
    manifest, results = synthetic(lambda axes: 30.0 if axes["loss"] == "dcl" else robust(axes))
    logged(manifest, results, **flat(lambda axes: axes["loss"] == "dcl"))
    (verdict,) = judge(tidy(manifest, results)).verdicts
    assert verdict.label == "NOT COMPARABLE"
    assert verdict.reservation == "all cells of DCL at batch size 256 collapsed, which leaves no accuracy to keep"
    assert "6 of 12 cells collapsed" in verdict.summary


def test_a_collapse_at_the_small_batch_is_a_loss_like_any_other(synthetic: Synthetic) -> None:
    def accuracy(axes: Axes) -> float:
        return 30.0 if (axes["loss"], axes["batch_size"]) == ("infonce", 64) else robust(axes)

    manifest, results = synthetic(accuracy)
    logged(manifest, results, **flat(lambda axes: (axes["loss"], axes["batch_size"]) == ("infonce", 64)))
    (verdict,) = judge(tidy(manifest, results)).verdicts
    assert (verdict.label, "3 of 12 cells collapsed" in verdict.summary) == ("REPRODUCED", True)


def test_verdicts_are_plain_json_without_nan(synthetic: Synthetic) -> None:
    manifest, results = synthetic(lambda axes: None if axes["seed"] else robust(axes), TWO)
    found = as_json(judge(tidy(manifest, results)))
    assert [one["verdict"] for one in found["verdicts"]] == ["INCOMPLETE", "INCOMPLETE"]
    assert found["verdicts"][0]["measured"] == {"mean": None, "low": None, "high": None, "n": 0}
    assert len(found["verdicts"][0]["cells"]["DCL"]) == 3


def test_the_abstract_counts_all_verdicts(synthetic: Synthetic) -> None:
    manifest, results = synthetic(lambda axes: robust(axes, advantage=0.5), TWO)
    table = tidy(manifest, results)
    said = abstract(judge(table).verdicts, table)
    assert said.endswith("Of 2 verdicts in all, 1 is REPRODUCED, 1 is INCONCLUSIVE.")


def test_the_same_difference_with_every_seed_is_no_evidence_of_its_spread(synthetic: Synthetic) -> None:
    """360 test images: by chance, three differences are equal in one of forty experiments."""
    seeds = [80.0, 81.0, 79.0]
    better = claim("difference", ["loss=dcl", "loss=infonce"], at="batch_size=64")
    (verdict,) = verdicts(synthetic, lambda axes: seeds[axes["seed"]] + 0.28 * (axes["loss"] == "dcl"), better)
    assert (verdict.label, verdict.next_step) == ("INCONCLUSIVE", "more seeds: these all give the same number")


def test_arms_that_differ_in_more_than_the_claim_says_are_not_compared(synthetic: Synthetic) -> None:
    grids = ["~axes.loss", "~axes.epochs", "grids.a={loss:[dcl],epochs:[9]}", "grids.b={loss:[infonce],epochs:[1]}"]
    better = claim("difference", ["loss=dcl", "loss=infonce"], at="batch_size=64")
    (verdict,) = verdicts(synthetic, robust, *grids, better)
    assert verdict.label == "NOT COMPARABLE"
    assert verdict.summary == "its arms differ in epochs (9 and 1), of which the claim says nothing"
    said = claim("difference", ["loss=dcl epochs=9", "loss=infonce epochs=1"], at="batch_size=64")
    assert verdicts(synthetic, robust, *grids, said)[0].label == "REPRODUCED"


def test_a_learning_rate_that_differs_between_arms_is_said(synthetic: Synthetic) -> None:
    grids = ["~axes.loss", "grids.a={loss:[dcl],lr:[0.5]}", "grids.b={loss:[infonce],lr:[0.1]}"]
    (verdict,) = verdicts(
        synthetic, robust, *grids, claim("difference", ["loss=dcl", "loss=infonce"], at="batch_size=64")
    )
    assert verdict.summary.endswith("; its arms differ in learning rate (0.5 and 0.1), too")


def test_arms_that_share_cells_are_not_compared(synthetic: Synthetic) -> None:
    (verdict,) = verdicts(
        synthetic, robust, claim("difference", ["loss=dcl", "loss=dcl batch_size>0"], at="batch_size=64")
    )
    assert (verdict.label, verdict.summary) == ("NOT COMPARABLE", "its arms share cells")


def test_an_axis_named_like_a_diagnostic_tells_arms_apart(synthetic: Synthetic) -> None:
    """The declared number of steps, not the one that was counted."""
    manifest, results = synthetic(robust, "~axes.epochs", "axes.steps=[10,30]")
    table = tidy(manifest, results)
    assert set(table.frame["steps"]) == {10, 30}
    found = judge(table).verdicts
    assert [(verdict.setting, verdict.measured.n) for verdict in found] == [({"steps": 10}, 3), ({"steps": 30}, 3)]
