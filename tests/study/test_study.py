"""Table, verdicts and report from synthetic records."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.errors import UserError
from harness.manifest import Manifest
from harness.record import Record
from harness.study.claims import decide, judge
from harness.study.frame import tidy
from harness.study.pdf import abstract, answer, content
from harness.study.plots import accuracy
from harness.study.report import write_report
from harness.study.statistics import Interval, mean_interval
from harness.study.tables import arms, for_people, with_interval, write_tables

Synthetic = Callable[..., tuple[Manifest, Path]]
Axes = Mapping[str, Any]


def robust(axes: Axes, advantage: float = 4.0) -> float:
    """InfoNCE loses ``advantage`` points at batch 64, DCL none; seeds shift both alike, and a little apart."""
    noise = {0: 0.0, 1: 1.0, 2: -1.0}.get(axes["seed"], 0.5)
    apart = 0.1 * axes["seed"] if axes["loss"] == "dcl" and axes["batch_size"] == 64 else 0.0
    return 80.0 + noise + apart - (advantage if axes["loss"] == "infonce" and axes["batch_size"] == 64 else 0.0)


def test_missing_cells_are_rows(synthetic: Synthetic) -> None:
    frame = tidy(*synthetic(lambda axes: None if axes["seed"] == 2 else 50.0))
    assert len(frame) == 12
    assert frame["state"].value_counts().to_dict() == {"finished": 8, "missing": 4}
    assert frame.loc[frame["seed"] == 2, "test_knn"].isna().all()


def test_the_interval_is_scipys(synthetic: Synthetic) -> None:
    values = [80.0, 81.5, 79.2, 80.4]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    # By hand: t(.975, 3) = 3.182446.
    half = 3.182446 * np.std(values, ddof=1) / 2
    assert found.high - found.mean == pytest.approx(half, rel=1e-6)


@given(st.lists(st.floats(-100, 100), max_size=8))
def test_intervals_hold_their_mean(values: list[float]) -> None:
    found = mean_interval(values)
    assert found.n == len(values)
    if found.n >= 2:
        assert found.low <= found.mean <= found.high
    else:
        assert math.isnan(found.low)


def test_a_clear_advantage_is_reproduced_and_measured(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust)
    (verdict,) = judge(manifest, tidy(manifest, results))
    assert verdict.word == "REPRODUCED"
    # Seeds are paired: differences are 4.0, 4.1, 4.2, whatever the seeds' common shifts.
    assert (verdict.measured.mean, verdict.measured.n) == (pytest.approx(4.1), 3)
    assert verdict.why == "from batch 256 to 64, DCL changes by +0.10 and InfoNCE changes by −4.00 points"
    assert answer([verdict]).startswith("Yes, as measured here. From batch 256 to 64, DCL changes by +0.10")
    assert "in favour of DCL over InfoNCE is +4.10 points, 95 % interval [+3.85, +4.35], 3 seeds" in answer([verdict])


def test_the_opposite_is_contradicted(synthetic: Synthetic) -> None:
    manifest, results = synthetic(lambda axes: robust(axes, advantage=-4.0))
    (verdict,) = judge(manifest, tidy(manifest, results))
    assert verdict.word == "CONTRADICTED"
    assert "InfoNCE changes by +4.00 points" in verdict.why


def test_no_effect_is_inconclusive(synthetic: Synthetic) -> None:
    manifest, results = synthetic(lambda axes: robust(axes, advantage=-0.1))
    assert judge(manifest, tidy(manifest, results))[0].word == "INCONCLUSIVE"


def test_two_seeds_decide_nothing_however_clear(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, "axes.seed=[0,1]")
    (verdict,) = judge(manifest, tidy(manifest, results))
    assert verdict.word == "INCONCLUSIVE"
    assert "seeds" in verdict.why


def test_a_missing_cell_leaves_the_claim_incomplete(synthetic: Synthetic) -> None:
    missing = {"loss": "dcl", "batch_size": 64, "seed": 1}
    manifest, results = synthetic(lambda axes: None if missing.items() <= axes.items() else robust(axes))
    (verdict,) = judge(manifest, tidy(manifest, results))
    assert (verdict.word, verdict.why) == ("INCOMPLETE", "11 of 12 cells have finished")


def test_pairs_of_cells_on_different_hardware_are_flagged(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust)
    (verdict,) = judge(manifest, tidy(manifest, results))
    assert "hardware" not in verdict.why
    frame = tidy(manifest, results)
    elsewhere = (frame["loss"] == "dcl") & (frame["batch_size"] == 64) & (frame["seed"] == 1)
    frame.loc[elsewhere, "hardware"] = "another processor"
    (verdict,) = judge(manifest, frame)
    assert verdict.why.endswith("1 of 6 pairs of cells ran on different hardware")


def test_a_caveat_is_printed_and_leaves_the_verdict(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, "caveat='small nets'")
    frame = tidy(manifest, results)
    verdicts = judge(manifest, frame)
    assert verdicts[0].word == "REPRODUCED"
    assert content(manifest, frame, verdicts)["caveat"] == "Small nets"


def test_a_scale_that_is_not_comparable_is_measured_but_decides_nothing(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, "comparable=false", "caveat='toys'")
    (verdict,) = judge(manifest, tidy(manifest, results))
    assert verdict.word == "NOT COMPARABLE"
    assert verdict.why.endswith("but toys")
    assert answer([verdict]).startswith("This scale cannot tell. From batch 256 to 64, DCL changes by")
    assert "toys" not in answer([verdict])


@pytest.mark.parametrize(("override", "why"), [("axes.loss=[infonce]", "DCL"), ("axes.batch_size=[64]", "two batch")])
def test_a_claim_about_arms_that_were_cut_away_says_so(synthetic: Synthetic, override: str, why: str) -> None:
    manifest, results = synthetic(robust, override)
    (verdict,) = judge(manifest, tidy(manifest, results))
    assert verdict.word == "NOT COMPARABLE"
    assert why in verdict.why
    assert answer([verdict]) == f"This scale cannot tell: {verdict.why}."


def test_each_setting_is_judged_by_itself(synthetic: Synthetic) -> None:
    def only_at_low_temperature(axes: Axes) -> float:
        return robust(axes, advantage=4.0 if axes["temperature"] == 0.1 else -4.0)

    manifest, results = synthetic(only_at_low_temperature, "axes.temperature=[0.1,0.5]")
    verdicts = judge(manifest, tidy(manifest, results))
    assert [(v.setting["temperature"], v.word) for v in verdicts] == [(0.1, "REPRODUCED"), (0.5, "CONTRADICTED")]
    said = answer(verdicts)
    assert said.startswith("Of 2 settings")
    assert said.endswith("is REPRODUCED in 1, CONTRADICTED in 1.")


OF_DCLW = "claims=[{name: dclw, says: DCLW is better., source: x, kind: smaller_drop, loss: dclw, baseline: infonce}]"


@pytest.mark.parametrize("sigmas", [[0.5], [0.3, 0.5]])
def test_a_loss_is_compared_with_one_that_lacks_its_parameter(synthetic: Synthetic, sigmas: list[float]) -> None:
    grids = ["grids.a={loss:[infonce]}", f"grids.b={{loss:[dclw],sigma:{sigmas}}}".replace(" ", "")]
    manifest, results = synthetic(robust, "~axes.loss", *grids, OF_DCLW)
    frame = tidy(manifest, results)
    assert [(v.setting["sigma"], v.word) for v in judge(manifest, frame)] == [(s, "REPRODUCED") for s in sigmas]
    svg = accuracy(manifest, frame, results)[0].read_text()
    assert svg.count("<!-- batch size (samples) -->") == len(sigmas), "a panel a sigma, InfoNCE in each"


def test_a_claim_is_not_judged_in_settings_that_neither_loss_has(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, "grids.a={}", "grids.b={loss:[eqco],alpha:[16,256]}")
    (verdict,) = judge(manifest, tidy(manifest, results))
    assert verdict.word == "REPRODUCED"


@pytest.mark.parametrize(
    ("low", "high", "n", "word"),
    [(0.1, 2, 3, "REPRODUCED"), (-2, -0.1, 3, "CONTRADICTED"), (-1, 1, 9, "INCONCLUSIVE"), (0.1, 2, 2, "INCONCLUSIVE")],
)
def test_verdicts_follow_the_interval(low: float, high: float, n: int, word: str) -> None:
    assert decide(Interval((low + high) / 2, low, high, n)) == word


def test_a_null_effect_is_rarely_called_either_way() -> None:
    rng = np.random.default_rng(0)
    words = [decide(mean_interval(rng.normal(0, 1, 3).tolist())) for _ in range(2000)]
    assert words.count("REPRODUCED") / 2000 == pytest.approx(0.025, abs=0.012)
    assert words.count("CONTRADICTED") / 2000 == pytest.approx(0.025, abs=0.012)


def test_tables_show_k_of_n_and_no_interval_for_one_seed(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(lambda axes: robust(axes) if axes["seed"] == 0 or axes["loss"] == "dcl" else None)
    shown = for_people(manifest, arms(manifest, tidy(manifest, results)))
    by_arm = {(row["batch size"], row["loss"]): row for _, row in shown.iterrows()}
    assert by_arm["64", "InfoNCE"]["seeds"] == "1 of 3"
    assert by_arm["64", "InfoNCE"]["kNN (%)"] == "76.00"
    assert by_arm["64", "DCL"]["seeds"] == "3 of 3"
    assert "±" in by_arm["64", "DCL"]["kNN (%)"]
    csv, markdown, latex = write_tables(manifest, tidy(manifest, results), tmp_path)
    assert len(pd.read_csv(csv)) == 4
    assert markdown.read_text().splitlines()[2].startswith("| 64 | InfoNCE | 76.00 |")
    assert r"64 & InfoNCE & 76.00 & 77.00 & 1 of 3 \\" in latex.read_text()
    assert with_interval(Interval(float("nan"), float("nan"), float("nan"), 0)) == "–"


def test_the_report_is_the_same_bytes_from_the_same_records(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(robust)
    first = {path.name: path.read_bytes() for path in write_report(manifest, results, tmp_path / "a").files}
    again = {path.name: path.read_bytes() for path in write_report(manifest, results, tmp_path / "b").files}
    assert first.keys() == {f"tiny.demo{s}" for s in
                            (".csv", ".table.csv", ".table.md", ".table.tex", ".svg", ".png", ".pdf")}  # fmt: skip
    assert first == again


def test_a_report_of_nothing_but_missing_cells_says_so(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(lambda axes: None)
    report = write_report(manifest, results, tmp_path)
    assert report.verdicts[0].word == "INCOMPLETE"
    printed = content(manifest, tidy(manifest, results), report.verdicts)
    assert printed["answer"] == "Not yet: 0 of 12 cells have finished."
    assert printed["cells_line"] == "0 of 12 cells"
    assert report.files[-1].read_bytes().startswith(b"%PDF")


def test_a_report_with_one_axis_of_everything(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(robust, "axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0]")
    assert write_report(manifest, results, tmp_path).files[-1].exists()


@pytest.mark.parametrize("override", ["~axes.epochs", "axes.lr=[0.1,0.2]", "axes.temperature=[0.1,0.2,0.3,0.4]"])
def test_a_report_of_other_axes(synthetic: Synthetic, tmp_path: Path, override: str) -> None:
    manifest, results = synthetic(robust, override, "caveat='Über alles'")
    report = write_report(manifest, results, tmp_path)
    printed = content(manifest, tidy(manifest, results), report.verdicts)
    assert len(printed["confounds"]["rows"]) == 2  # the same steps and rate in these records: one row a batch size
    assert printed["caveat"].startswith("Über")


def test_a_manifest_of_another_version_is_refused_with_a_way_out(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust)
    path = results / "manifests" / "tiny.demo.json"
    path.write_text(path.read_text().replace('"comparable"', '"comparible"'))
    with pytest.raises(UserError, match="another version"):
        Manifest.read(results, manifest.name)


def test_the_plot_marks_incomplete_arms(synthetic: Synthetic) -> None:
    manifest, results = synthetic(lambda axes: None if axes["seed"] == 2 and axes["loss"] == "dcl" else robust(axes))
    frame = tidy(manifest, results)
    svg = accuracy(manifest, frame, results)[0].read_text()
    assert svg.count("<!-- 2 of 3 -->") == 2


def test_one_batch_size_is_plotted_by_arm_with_method_and_loss(synthetic: Synthetic) -> None:
    overrides = ["axes.batch_size=[64]", "axes.method=[simclr,moco]", "axes.temperature=[0.1]"]
    manifest, results = synthetic(robust, *overrides)
    frame = tidy(manifest, results)
    svg = accuracy(manifest, frame, results)[0].read_text()
    for label in ("SimCLR, InfoNCE", "SimCLR, DCL", "MoCo v2, InfoNCE", "MoCo v2, DCL", "trained", "initial encoder"):
        assert svg.count(f"<!-- {label} -->") == 1
    printed = content(manifest, frame, judge(manifest, frame))
    assert (printed["heading"], printed["panels"]) == ("Accuracy", 1)


def test_one_arm_is_plotted_by_its_loss(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, "axes.batch_size=[64]", "axes.loss=[dcl]")
    assert "<!-- DCL -->" in accuracy(manifest, tidy(manifest, results), results)[0].read_text()


def test_an_arms_label_names_its_numbers_and_leaves_out_what_it_lacks(synthetic: Synthetic) -> None:
    overrides = ["axes.batch_size=[64]", "axes.loss=[infonce,eqco]", "axes.alpha=[16]", "axes.temperature=[0.1,0.2]"]
    manifest, results = synthetic(robust, *overrides)
    svg = accuracy(manifest, tidy(manifest, results), results)[0].read_text()
    for label in ("temperature 0.1, InfoNCE", "temperature 0.2, alpha 16, EqCo"):
        assert svg.count(f"<!-- {label} -->") == 1


def test_missing_arms_have_their_row_in_the_plot_too(synthetic: Synthetic) -> None:
    manifest, results = synthetic(lambda axes: None if axes["loss"] == "dcl" else 60.0, "axes.batch_size=[64]")
    assert "<!-- DCL -->" in accuracy(manifest, tidy(manifest, results), results)[0].read_text()


def test_the_legend_of_several_settings_holds_every_loss_once(synthetic: Synthetic) -> None:
    grids = ["grids.warm={loss:[infonce,dcl],temperature:[0.1,0.5]}", "grids.cold={loss:[eqco],temperature:[0.05]}"]
    manifest, results = synthetic(robust, "~axes.loss", "~axes.temperature", *grids)
    svg = accuracy(manifest, tidy(manifest, results), results)[0].read_text()
    in_legend = re.findall(r"<!-- (.*?) -->", svg[svg.index('id="legend_1"') :])
    assert in_legend == ["EqCo", "InfoNCE", "DCL", "initial encoder"]
    for temperature in (0.05, 0.1, 0.5):
        assert svg.count(f"<!-- temperature {temperature}, epochs 1 -->") == 1


def test_lines_of_more_losses_than_colours_differ(synthetic: Synthetic) -> None:
    losses = ["infonce", "dcl", "dclw", "eqco", "flatnce", "simclr_sq", "dcl_sq", "sogclr"]
    manifest, results = synthetic(lambda axes: 60.0, f"axes.loss=[{','.join(losses)}]", "axes.seed=[0]")
    svg = accuracy(manifest, tidy(manifest, results), results)[0].read_text()
    # A marker is defined once for each shape and colour; the legend shows one a loss, unless it leaves the canvas.
    markers = re.findall(r'xlink:href="#(m\w+)"', svg[svg.index('id="legend_1"') :])
    assert len(markers) == len(set(markers)) == len(losses)


def test_without_claims_the_answer_counts_encoders_that_learned(synthetic: Synthetic, tmp_path: Path) -> None:
    # The initial encoder has 30 %.
    better = {0: 60.0, 1: 30.0, 2: None}
    manifest, results = synthetic(lambda axes: better[axes["seed"]], "claims=[]")
    report = write_report(manifest, results, tmp_path)
    assert report.verdicts == []
    assert report.answer == "4 of 8 trained encoders beat their own initialisation; 0 collapsed."
    assert report.unevaluated == 4
    printed = content(manifest, tidy(manifest, results), [])
    assert (printed["answer"], printed["verdicts"]) == (report.answer, [])


def logged(manifest: Manifest, results: Path, **metrics: Callable[[Axes], float | None]) -> None:
    """Diagnostics after the last epoch of every cell, as functions of its axes by short name; None logs none."""
    for cell in manifest.cells:
        axes = {path.removesuffix(".name").rsplit(".", 1)[-1]: value for path, value in cell.axes.items()}
        found = {name: value for name, of in metrics.items() if (value := of(axes)) is not None}
        Record(results / "runs" / cell.cell_id).attempts()[-1].log_event(20, found, epoch=1)


def test_a_collapsed_cell_is_flagged_in_table_and_report(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(robust, "axes.batch_size=[64]", "axes.seed=[0,1]")
    fallen = {"loss": "dcl", "seed": 1}
    logged(
        manifest,
        results,
        uniformity=lambda axes: -0.01 if fallen.items() <= axes.items() else -2.0,
        val_knn=lambda axes: 0.0,  # no better than before training
    )
    csv = write_report(manifest, results, tmp_path).files[0]
    rows = pd.read_csv(csv, keep_default_na=False)
    why = "embeddings are nearly one point (uniformity -0.01)"
    assert rows["collapse"].tolist() == ["", "", "", why]
    frame = tidy(manifest, results)
    assert content(manifest, frame, [])["collapsed"] == [f"{rows['cell_id'][3]} (loss dcl, seed 1): {why}"]
    assert abstract([], frame) == "4 of 4 trained encoders beat their own initialisation; 1 collapsed."


def test_diagnostics_are_means_over_seeds_with_a_dash_where_a_loss_has_none(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, "axes.batch_size=[64]", "axes.loss=[dcl,vicreg]", "~axes.temperature")
    logged(
        manifest,
        results,
        q_mean=lambda axes: 0.5 + 0.1 * axes["seed"] if axes["loss"] == "dcl" else None,
        effective_rank=lambda axes: 10.0 + axes["seed"],
    )
    frame = tidy(manifest, results)
    found = content(manifest, frame, judge(manifest, frame))["diagnostics"]
    rows = [["DCL", "0.6", "11"], ["VICReg", "–", "11"]]
    assert found == {"header": ["loss", "q", "rank"], "labels": 1, "rows": rows, "note": ""}


def test_the_design_names_values_and_not_what_losses_and_methods_lack(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, "axes.loss=[infonce,eqco]", "axes.alpha=[16]", "axes.queue=[8]")
    design = content(manifest, tidy(manifest, results), [])["design"]
    assert "alpha 16.0; seeds 0, 1, 2." in design
    assert "None" not in design


def test_records_without_diagnostics_leave_that_table_out(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(robust, "axes.seed=[0]")
    report = write_report(manifest, results, tmp_path)
    assert content(manifest, tidy(manifest, results), report.verdicts)["diagnostics"]["rows"] == []


def test_the_study_needs_neither_torch_nor_mlflow() -> None:
    code = "import sys, harness.study.report; assert not {'torch', 'mlflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
