"""What a report prints."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from harness.files import read_json, write_json
from harness.store.record import Record
from harness.study.frame import tidy
from harness.study.report.abstract import abstract
from harness.study.report.content import content, study
from harness.study.report.document import PrintedTable
from harness.study.report.report import write_report
from tests.support.synthetic import Synthetic, logged, robust

pytestmark = pytest.mark.e2e


def test_a_caveat_is_printed_and_not_repeated_with_every_claim(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, "comparable=false", "caveat='small nets'")
    printed = content(study(tidy(manifest, results)))
    assert printed.caveat == "Small nets"
    assert printed.limitations[0] == "Small nets."
    (verdict,) = printed.verdicts.rows
    assert (verdict.word, verdict.interval, verdict.seeds) == ("NOT COMPARABLE", "[+3.85, +4.35] (95 %)", "3")
    assert "small nets" not in verdict.why


def test_limitations_are_what_manifest_and_records_show(synthetic: Synthetic) -> None:
    manifest, results = synthetic(lambda axes: None if axes["seed"] == 2 else robust(axes), "axes.seed=[0,1,2]")
    table = tidy(manifest, results)
    table.frame.loc[table.frame["seed"] == 1, "revision"] = "1" * 40
    said = content(study(table)).limitations
    assert (
        said[0]
        == "All cells use one data set, scikit-learn digits (8x8): the results say nothing about other data sets."
    )
    assert said[1].startswith("3 seeds per arm: ")
    assert said[2].startswith("The temperature and the learning rate have one value for all arms")
    assert "4 cells of 12 have no numbers; claims that need them are not judged." in said
    assert "The cells ran with 2 revisions of the code." in said


PUBLISHED = (
    "claims=[{name: better, says: DCL is better., source: abstract, paper: dcl, measure: difference, "
    "arms: ['loss=dcl', 'loss=infonce'], at: 'batch_size=64', "
    "published: [dcl.simclr_dcl_in1k_256_200, dcl.simclr_in1k_256_200]}]"
)


def test_published_numbers_stand_beside_measured_ones_and_say_what_differs(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, PUBLISHED)
    printed = content(study(tidy(manifest, results)))
    (verdict,) = printed.verdicts.rows
    assert verdict.published == "68.2, 61.8 †"
    assert verdict.source == "Yeh et al. 2022, arXiv 2110.06848, abstract"
    first = printed.published.rows[0]
    assert first[0] == "68.2"
    assert first[2] == "ImageNet-1K, ResNet-50, SimCLR, DCL, batch size 256, epochs 200, linear top-1"
    assert "backbone four-layer conv net instead of ResNet-50" in first[5]
    assert any("batch-size tables" in line for line in printed.unread)
    assert printed.limitations[-1].startswith("No published number")


def test_diagnostics_are_means_over_seeds_with_a_dash_where_a_loss_has_none(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, "axes.batch_size=[64]", "axes.loss=[dcl,vicreg]", "~axes.temperature")
    logged(
        manifest,
        results,
        q_mean=lambda axes: 0.5 + 0.1 * axes["seed"] if axes["loss"] == "dcl" else None,
        effective_rank=lambda axes: 10.0 + axes["seed"],
    )
    table = tidy(manifest, results)
    found = content(study(table)).diagnostics
    rows = [["DCL", "0.6", "11"], ["VICReg", "–", "11"]]
    assert found == PrintedTable(["loss", "q", "rank"], rows, labels=1)


def test_the_design_names_values_and_not_what_losses_and_methods_lack(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, "axes.loss=[infonce,eqco]", "axes.alpha=[16]", "axes.queue=[8]")
    design = content(study(tidy(manifest, results))).design
    assert design.varied.endswith("; alpha 16.0")
    assert design.seeds == "0, 1, 2"
    assert "None" not in str(design)


@pytest.mark.parametrize("override", ["~axes.epochs", "axes.lr=[0.1,0.2]", "axes.temperature=[0.1,0.2,0.3,0.4]"])
def test_a_report_of_other_axes(synthetic: Synthetic, tmp_path: Path, override: str) -> None:
    manifest, results = synthetic(robust, override, "caveat='Über alles'")
    write_report(manifest, results, tmp_path)
    printed = content(study(tidy(manifest, results)))
    assert len(printed.confounds.rows) == 2  # the same steps and rate in these records: one row a batch size
    assert printed.caveat.startswith("Über")


def test_without_claims_the_answer_counts_encoders_that_learned(synthetic: Synthetic, tmp_path: Path) -> None:
    # The initial encoder has 30 %.
    better = {0: 60.0, 1: 30.0, 2: None}
    manifest, results = synthetic(lambda axes: better[axes["seed"]], "claims=[]")
    report = write_report(manifest, results, tmp_path)
    assert report.verdicts == []
    assert report.answer == "4 of 8 trained encoders beat their own initialisation; 0 collapsed."
    assert report.unevaluated == 4
    printed = content(study(tidy(manifest, results)))
    assert (printed.answer, printed.verdicts.rows, printed.claims) == (report.answer, [], [])


def test_a_collapsed_cell_is_flagged_in_table_and_report(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(robust, "axes.batch_size=[64]", "axes.seed=[0,1]")
    fallen = {"loss": "dcl", "seed": 1}
    logged(
        manifest,
        results,
        uniformity=lambda axes: -0.01 if fallen.items() <= axes.items() else -2.0,
        val_knn=lambda axes: 0.0,  # no better than before training
    )
    csv = write_report(manifest, results, tmp_path).files["data"]
    rows = pd.read_csv(csv, keep_default_na=False)
    why = "embeddings are nearly one point (uniformity -0.01)"
    assert rows["collapse"].tolist() == ["", "", "", why]
    table = tidy(manifest, results)
    assert content(study(table)).collapsed == [f"{rows['cell_id'][3]} (DCL, seed 1): {why}"]
    assert abstract([], table) == "4 of 4 trained encoders beat their own initialisation; 1 collapsed."


def test_records_without_diagnostics_leave_that_table_out(synthetic: Synthetic, tmp_path: Path) -> None:
    manifest, results = synthetic(robust, "axes.seed=[0]")
    write_report(manifest, results, tmp_path)
    assert content(study(tidy(manifest, results))).diagnostics.rows == []


def test_the_energy_is_that_of_the_cells_whose_counters_were_read(synthetic: Synthetic) -> None:
    manifest, results = synthetic(robust, "axes.batch_size=[64]", "axes.seed=[0,1]")

    def said() -> str:
        return dict(content(study(tidy(manifest, results))).run)["Energy"]

    assert said() == "Not readable on this hardware."
    read = [{"processor": 1.2e6, "gpu": 2.4e6}, {"processor": 828e3}, {"processor": 0.0}]  # of four cells
    for cell, joules in zip(manifest.cells, read, strict=False):
        path = Record(results / "runs" / cell.cell_id).path / "outcome.json"
        write_json(path, {**(read_json(path) or {}), "joules": joules})
    assert tidy(manifest, results).frame["joules"].dropna().tolist() == [3.6e6, 828e3]
    assert said() == (
        "1.23 kWh by the counters of whole processor packages and GPUs, of 2 of 4 cells; "
        "cells that run at the same time on one processor each count all of its energy."
    )
