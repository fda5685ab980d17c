"""The files of a report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from harness.errors import UserError
from harness.manifest import Manifest
from harness.study.frame import tidy
from harness.study.report.all_experiments import write_reproduction
from harness.study.report.content import content, study
from harness.study.report.report import write_report
from harness.study.report.tables import for_people, with_interval, write_tables
from harness.study.statistics import Interval
from tests.support.synthetic import Axes, Synthetic, robust


def test_missing_cells_are_rows(synthetic: Synthetic) -> None:
    table = tidy(*synthetic(lambda axes: None if axes["seed"] == 2 else 50.0))
    assert len(table.frame) == 12
    assert table.frame["state"].value_counts().to_dict() == {"finished": 8, "missing": 4}
    assert table.frame.loc[table.frame["seed"] == 2, "test_knn"].isna().all()


def test_tables_show_k_of_n_and_no_interval_for_one_seed(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(lambda axes: robust(axes) if axes["seed"] == 0 or axes["loss"] == "dcl" else None)
    shown = for_people(tidy(manifest, results))
    by_arm = {(row["batch size"], row["loss"]): row for _, row in shown.iterrows()}
    assert by_arm["64", "InfoNCE"]["seeds"] == "1 of 3"
    assert by_arm["64", "InfoNCE"]["kNN (%)"] == "76.00"
    assert by_arm["64", "DCL"]["seeds"] == "3 of 3"
    assert "±" in by_arm["64", "DCL"]["kNN (%)"]
    csv, markdown, latex = write_tables(tidy(manifest, results), tmp_path)
    assert len(pd.read_csv(csv)) == 4
    assert markdown.read_text().splitlines()[2].startswith("| 64 | InfoNCE | 76.00 |")
    assert r"64 & InfoNCE & 76.00 & 77.00 & 1 of 3 \\" in latex.read_text()
    assert with_interval(Interval(float("nan"), float("nan"), float("nan"), 0)) == "–"


@pytest.mark.e2e
def test_the_report_is_the_same_bytes_from_the_same_records(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(robust)
    first = {path.name: path.read_bytes() for path in write_report(manifest, results, tmp_path / "a").files.values()}
    again = {path.name: path.read_bytes() for path in write_report(manifest, results, tmp_path / "b").files.values()}
    suffixes = (".csv", ".table.csv", ".table.md", ".table.tex", ".claims.json", ".svg", ".png", ".pdf")
    assert first.keys() == {f"tiny.demo{suffix}" for suffix in suffixes}
    assert first == again


@pytest.mark.e2e
def test_a_report_of_nothing_but_missing_cells_says_so(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(lambda axes: None)
    report = write_report(manifest, results, tmp_path)
    assert report.verdicts[0].label == "INCOMPLETE"
    printed = content(study(tidy(manifest, results)))
    assert printed.answer == "Not yet: 0 of 12 cells have finished."
    assert printed.cells_line == "0 of 12 cells"
    assert report.files["PDF"].read_bytes().startswith(b"%PDF")


def test_a_report_with_one_axis_of_everything(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(robust, "axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0]")
    assert write_report(manifest, results, tmp_path).files["PDF"].exists()


def test_a_manifest_of_another_version_is_refused_with_a_way_out(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust)
    path = results / "manifests" / "tiny.demo.json"
    path.write_text(path.read_text().replace('"comparable"', '"comparible"'))
    with pytest.raises(UserError, match="another version"):
        Manifest.read(results, manifest.name)


@pytest.mark.e2e
def test_the_study_needs_neither_torch_nor_mlflow() -> None:
    modules = "harness.study.report.report, harness.study.report.all_experiments"
    code = f"import sys, {modules}; assert not {{'torch', 'mlflow'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.e2e
def test_one_document_holds_every_experiment_that_makes_claims(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(robust)
    silent, _ = synthetic(robust, "claims=[]")
    path, studies, _ = write_reproduction([manifest, silent, manifest], results, tmp_path)
    assert path.read_bytes().startswith(b"%PDF")
    assert [one.table.manifest.name for one in studies] == ["tiny.demo", "tiny.demo"]
    again, *_ = write_reproduction([manifest, silent, manifest], results, tmp_path / "again")
    assert again.read_bytes() == path.read_bytes()


def test_a_table_by_arm_says_of_every_row_what_it_is(synthetic: Synthetic) -> None:
    """Sorted rows keep their batch sizes."""
    sizes, rates = [256, 64, 128], [0.2, 0.1]

    def accuracy(axes: Axes) -> float:
        return axes["batch_size"] / 10 + 10 * axes["lr"] + 0.01 * axes["seed"]

    manifest, results = synthetic(accuracy, f"axes.batch_size={sizes}", f"axes.lr={rates}".replace(" ", ""))
    shown = for_people(tidy(manifest, results))
    for _, row in shown.iterrows():
        expected = int(row["batch size"]) / 10 + 10 * float(row["learning rate"]) + 0.01
        assert float(row["kNN (%)"].split()[0]) == pytest.approx(expected, abs=0.006)
