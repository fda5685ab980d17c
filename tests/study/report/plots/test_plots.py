"""Figures of synthetic records: what stands in their SVG, where matplotlib writes every text as a comment."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest

from harness.manifest import Manifest
from harness.study.claims.verdicts import judge
from harness.study.frame import tidy
from harness.study.papers.comparison import of_same_images
from harness.study.report.content import content, study
from harness.study.report.plots import style
from harness.study.report.plots.accuracy import accuracy
from harness.study.report.plots.claim import claim_figure
from harness.study.report.plots.diagnostics import curves, gradients
from harness.study.report.plots.heatmap import heatmap
from harness.study.report.report import write_report
from tests.support.synthetic import Axes, Synthetic, logged, robust

pytestmark = pytest.mark.e2e


def test_the_plot_marks_incomplete_arms(synthetic: Synthetic) -> None:
    manifest, results = synthetic(lambda axes: None if axes["seed"] == 2 and axes["loss"] == "dcl" else robust(axes))
    table = tidy(manifest, results)
    svg = accuracy(table, results)[0].read_text()
    assert svg.count("<!-- 2 of 3 -->") == 2


def test_missing_arms_have_their_row_in_the_plot_too(synthetic: Synthetic) -> None:
    manifest, results = synthetic(lambda axes: None if axes["loss"] == "dcl" else 60.0, "axes.batch_size=[64]")
    assert "<!-- DCL -->" in accuracy(tidy(manifest, results), results)[0].read_text()


def test_one_arm_is_plotted_by_its_loss(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, "axes.batch_size=[64]", "axes.loss=[dcl]")
    assert "<!-- DCL -->" in accuracy(tidy(manifest, results), results)[0].read_text()


def test_lines_of_more_losses_than_colours_differ(synthetic: Synthetic) -> None:
    losses = ["infonce", "dcl", "dclw", "eqco", "flatnce", "simclr_sq", "dcl_sq", "sogclr"]
    manifest, results = synthetic(lambda axes: 60.0, f"axes.loss=[{','.join(losses)}]", "axes.seed=[0]")
    svg = accuracy(tidy(manifest, results), results)[0].read_text()
    # A marker is defined once for each shape and colour; the legend shows one a loss, unless it leaves the canvas.
    markers = re.findall(r'xlink:href="#(m\w+)"', svg[svg.index('id="legend_1"') :])
    assert len(markers) == len(set(markers)) == len(losses)


def test_an_arms_label_names_its_numbers_and_leaves_out_what_it_lacks(synthetic: Synthetic) -> None:
    overrides = ["axes.batch_size=[64]", "axes.loss=[infonce,eqco]", "axes.alpha=[16,32]", "when.alpha='loss=eqco'"]
    manifest, results = synthetic(robust, *overrides)
    svg = accuracy(tidy(manifest, results), results)[0].read_text()
    for label in ("InfoNCE", "alpha 16, EqCo", "alpha 32, EqCo"):
        assert svg.count(f"<!-- {label} -->") == 1


def test_one_batch_size_is_plotted_by_arm_with_method_and_loss(synthetic: Synthetic) -> None:
    overrides = ["axes.batch_size=[64]", "axes.method=[simclr,moco]", "axes.temperature=[0.1]"]
    manifest, results = synthetic(robust, *overrides)
    table = tidy(manifest, results)
    svg = accuracy(table, results)[0].read_text()
    for label in ("SimCLR, InfoNCE", "SimCLR, DCL", "MoCo v2, InfoNCE", "MoCo v2, DCL", "trained", "initial encoder"):
        assert svg.count(f"<!-- {label} -->") == 1
    printed = content(study(table))
    assert (printed.heading, printed.panels) == ("Accuracy", 1)


@pytest.mark.parametrize(("axis", "word"), [("epochs", "epochs"), ("dim", "dim"), ("temperature", "temperature")])
def test_accuracy_is_drawn_along_whatever_number_varies(synthetic: Synthetic, axis: str, word: str) -> None:
    values = "[0.1,0.5]" if axis == "temperature" else "[2,8]"
    manifest, results = synthetic(robust, "axes.batch_size=[64]", f"axes.{axis}={values}")
    table = tidy(manifest, results)
    assert f"<!-- {word} -->" in accuracy(table, results)[0].read_text()
    assert content(study(table)).heading == f"Accuracy against {word}"


def test_the_legend_of_several_settings_holds_every_loss_once(synthetic: Synthetic) -> None:
    grids = ["grids.warm={loss:[infonce,dcl],temperature:[0.1,0.5]}", "grids.cold={loss:[eqco],temperature:[0.05]}"]
    manifest, results = synthetic(robust, "~axes.loss", "~axes.temperature", *grids)
    svg = accuracy(tidy(manifest, results), results)[0].read_text()
    in_legend = re.findall(r"<!-- (.*?) -->", svg[svg.index('id="legend_1"') :])
    assert in_legend == ["EqCo", "InfoNCE", "DCL", "initial encoder"]
    for temperature in (0.05, 0.1, 0.5):
        assert svg.count(f"<!-- temperature {temperature} -->") == 1


def of_claim(manifest: Manifest, results: object) -> str:
    table = tidy(manifest, results)  # type: ignore[arg-type]
    return claim_figure(table, judge(table).verdicts, of_same_images(table)).decode()


def test_a_claims_figure_shows_its_arms_and_what_decides(synthetic: Synthetic) -> None:
    svg = of_claim(*synthetic(robust))
    for text in ("DCL", "InfoNCE", "a seed", "where the claim is true", "the claim: more than 0"):
        assert svg.count(f"<!-- {text} -->") == 1
    assert "<!-- loss of InfoNCE − loss of DCL (points) -->" in svg


def test_a_loss_looks_the_same_in_every_figure(synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim names DCL first, the experiment InfoNCE; by settings, InfoNCE of a higher temperature comes last."""
    looks: list[tuple[str, int]] = []
    line = style.line

    def seen(axes: object, rows: object, name: str, label: str, position: int, *more: str) -> None:
        looks.append((label, position))
        line(axes, rows, name, label, position, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(style, "line", seen)
    grids = ["grids.warm={loss:[infonce,dcl],temperature:[0.1]}", "grids.cold={loss:[eqco],temperature:[0.05]}"]
    manifest, results = synthetic(robust, *grids)
    accuracy(tidy(manifest, results), results)
    of_accuracy, looks[:] = set(looks), []
    of_claim(manifest, results)
    assert [label for label, _ in looks] == ["DCL", "InfoNCE"]
    assert set(looks) < of_accuracy


def test_published_accuracies_of_the_same_images_are_stars_and_say_that_the_setting_differs(
    synthetic: Synthetic,
) -> None:
    manifest, results = synthetic(robust, "axes.batch_size=[128,512]")
    cifar = {**manifest.settings, "dataset": {**manifest.settings["dataset"], "name": "cifar10"}}
    svg = of_claim(replace(manifest, settings=cifar), results)
    assert svg.count("<!-- published, in another setting -->") == 1
    beside = of_same_images(tidy(replace(manifest, settings=cifar), results))
    drawn = {one.number.value for one in beside if one.number.metric == "test_knn"}
    assert {84.4, 84.7, 84.0, 84.8} <= drawn, "lightly's DCL and SimCLR at batch 128 and 512"


def test_a_claims_figure_shows_every_setting(synthetic: Synthetic) -> None:
    svg = of_claim(*synthetic(robust, "axes.temperature=[0.1,0.5]"))
    for text in ("temperature 0.1", "temperature 0.5"):
        assert f"<!-- {text} -->" in svg


def test_a_claim_of_nothing_but_missing_cells_still_has_its_arms(synthetic: Synthetic) -> None:
    svg = of_claim(*synthetic(lambda axes: None))
    assert svg.count("<!-- 0 of 3 -->") == 4
    assert "a seed" not in svg


def test_arms_of_different_epochs_are_drawn_along_epochs(synthetic: Synthetic) -> None:
    faster = ("claims=[{name: fast, says: So., source: x, measure: difference, at: 'batch_size=64', "
              "arms: ['loss=dcl epochs=2', 'loss=infonce epochs=4']}]")  # fmt: skip
    svg = of_claim(*synthetic(robust, "axes.epochs=[2,4]", "axes.batch_size=[64]", faster))
    assert "<!-- epochs -->" in svg
    assert "<!-- DCL, epochs 2 − InfoNCE, epochs 4 (points) -->" in svg


def test_temperature_against_batch_size_is_a_map_in_which_missing_squares_are_dashes(synthetic: Synthetic) -> None:
    def accuracy(axes: Axes) -> float | None:
        return None if axes["temperature"] == 0.5 and axes["loss"] == "dcl" and axes["seed"] == 1 else robust(axes)

    manifest, results = synthetic(accuracy, "axes.temperature=[0.1,0.5]")
    svg = (heatmap(tidy(manifest, results)) or b"").decode()
    assert svg.count("<!-- – -->") == 2
    assert svg.count("<!-- 76.0 -->") == 2
    manifest, results = synthetic(accuracy)
    assert heatmap(tidy(manifest, results)) is None


def test_q_and_the_effective_negatives_are_drawn_along_the_batch_size(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust)
    assert gradients(tidy(manifest, results)) is None
    logged(manifest, results, q_mean=lambda axes: 0.5, q_05=lambda axes: 0.1, q_95=lambda axes: 0.9,
           negatives_ess=lambda axes: axes["batch_size"] / 2)  # fmt: skip
    svg = (gradients(tidy(manifest, results)) or b"").decode()
    assert "<!-- effective number of negatives -->" in svg


def test_learning_curves_have_a_panel_a_batch_size(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust)
    svg = (curves(tidy(manifest, results)) or b"").decode()
    for size in (64, 256):
        assert svg.count(f"<!-- batch size {size} -->") == 1
    manifest, results = synthetic(lambda axes: None if (axes["loss"], axes["seed"]) == ("dcl", 2) else robust(axes))
    logged(manifest, results, q_mean=lambda axes: 0.5)
    for drawn in (curves, gradients):
        svg = (drawn(tidy(manifest, results)) or b"").decode()
        assert svg.count("<!-- 2 of 3 -->") == 2, "DCL's at each batch size"
    manifest, results = synthetic(lambda axes: None)
    assert curves(tidy(manifest, results)) is None


def test_a_claim_of_arms_that_were_not_declared_has_no_figure(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(robust, "axes.loss=[infonce]")
    table = tidy(manifest, results)
    assert claim_figure(table, judge(table).verdicts, []) is None
    assert write_report(manifest, results, tmp_path).files["PDF"].exists()


def test_arms_go_by_what_tells_them_apart(synthetic: Synthetic) -> None:
    """Of cells with and without the axis, in one table."""
    steps = "arms: ['method=moco loss=dcl queue=128', 'method=moco loss=dcl queue=512']"
    longer = f"claims=[{{name: longer, says: So., source: x, measure: difference, {steps}}}]"
    grids = ["grids.a={method:[moco],queue:[128,512]}", "grids.b={method:[simclr]}"]
    svg = of_claim(*synthetic(robust, "axes.batch_size=[64]", *grids, longer))
    assert "<!-- queue 128 − queue 512 (points) -->" in svg
    assert "<!-- queue -->" in svg
    assert "<!-- MoCo v2, DCL -->" in svg


def test_a_map_of_losses_with_other_values_has_the_rows_of_all(synthetic: Synthetic) -> None:
    grids = ["~axes.loss", "~axes.temperature", "grids.a={loss:[infonce],temperature:[0.05,0.1,0.5]}",
             "grids.b={loss:[dcl],temperature:[0.1,0.2]}"]  # fmt: skip
    manifest, results = synthetic(lambda axes: 10 + 100 * axes["temperature"], *grids)
    svg = (heatmap(tidy(manifest, results)) or b"").decode()
    for temperature, panels in (("0.05", 2), ("0.1", 2), ("0.2", 2), ("0.5", 2)):
        assert svg.count(f"<!-- {temperature} -->") == panels
    assert (svg.count("<!-- 15.0 -->"), svg.count("<!-- 30.0 -->"), svg.count("<!-- – -->")) == (2, 2, 0)


def test_a_map_averages_over_nothing_but_seeds(synthetic: Synthetic) -> None:
    """InfoNCE that was also trained for longer is not better on the map."""
    grids = ["~axes.epochs", "grids.a={epochs:[1],temperature:[0.1,0.5]}",
             "grids.b={loss:[infonce],epochs:[9],temperature:[0.1]}"]  # fmt: skip
    manifest, results = synthetic(lambda axes: 90.0 if axes["epochs"] == 9 else 50.0, "~axes.temperature", *grids)
    svg = (heatmap(tidy(manifest, results)) or b"").decode()
    assert svg.count("<!-- 50.0 -->") == 2 * 2 * 2
    assert "<!-- epochs 1 -->" in svg


#: What a user may have in a matplotlibrc, or in a notebook's session.
OF_A_USER = {
    "lines.linewidth": 9.0,
    "axes.facecolor": "red",
    "savefig.bbox": "tight",
    "savefig.facecolor": "blue",
    "savefig.dpi": 30.0,
    "svg.fonttype": "none",
    "font.family": ["serif"],
    "axes.grid": True,
    "figure.constrained_layout.w_pad": 1.0,
    "path.sketch": (1.0, 100.0, 2.0),
    "text.usetex": True,
}


def test_a_users_settings_of_matplotlib_change_no_byte(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(robust)
    table = tidy(manifest, results)
    plain = [path.read_bytes() for path in accuracy(table, tmp_path)]
    with matplotlib.rc_context(OF_A_USER):
        assert [path.read_bytes() for path in accuracy(table, tmp_path)] == plain
        assert matplotlib.rcParams["lines.linewidth"] == 9.0, "the user's settings stand after it"
