"""Every experiment of the repository is planned at every scale, and its claims are about cells that it declares."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import yaml

from harness.datasets import DATASETS, DatasetFiles, FixedDataset
from harness.manifest import Manifest
from harness.study.claims.measures import MEASURES
from harness.study.claims.validate import check_claims
from harness.study.claims.verdicts import judge
from harness.study.frame import tidy
from harness.study.papers.published import papers
from harness.sweep.declare.compose import Declaration, declare
from harness.sweep.expand import grid

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "experiments").glob("*.yaml"))
RAW = {path: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FILES}
SCALES = [pytest.param(path, scale, id=f"{path.stem}.{scale}") for path in FILES for scale in RAW[path]["scales"]]
#: An image folder is as large as ImageNet's, which the papers train on.
IMAGENET = DatasetFiles("", "", 1_281_167, 50_000, 3, 1_281_167)


def files_of(declaration: Declaration) -> DatasetFiles:
    """As large as the data set is, which need not be here."""
    entry = DATASETS[declaration.experiment.dataset.name]
    return entry.files() if isinstance(entry, FixedDataset) else IMAGENET


@functools.cache
def expected(path: Path, scale: str) -> Manifest:
    declaration = declare(path, [f"scale={scale}"])
    files = files_of(declaration)
    return grid.manifest(declaration, files, grid.expand(declaration, files), "")


@pytest.mark.parametrize(("path", "scale"), SCALES)
def test_every_scale_has_cells_and_says_what_it_cannot_say(path: Path, scale: str) -> None:
    manifest = expected(path, scale)
    assert manifest.cells
    assert manifest.caveat


@pytest.mark.parametrize(("path", "scale"), SCALES)
def test_its_claims_can_be_measured_and_name_their_paper(path: Path, scale: str) -> None:
    declaration = declare(path, [f"scale={scale}"])
    check_claims(declaration.claims)  # also that published numbers exist
    for claim in declaration.claims:
        assert claim.paper in papers(), claim.name


@pytest.mark.parametrize(("path", "scale"), SCALES)
def test_its_claims_are_about_cells_that_it_declares(path: Path, scale: str, tmp_path: Path) -> None:
    """Before anything has run, a claim waits for its cells: nothing else is wrong with it."""
    manifest = expected(path, scale)
    verdicts = judge(tidy(manifest, tmp_path)).verdicts
    assert {verdict.claim.name for verdict in verdicts} == {claim.name for claim in manifest.claims}
    assert [(verdict.claim.name, verdict.why) for verdict in verdicts if verdict.label != "INCOMPLETE"] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_demo_is_small_and_decides_nothing(path: Path) -> None:
    manifest = expected(path, "demo")
    assert RAW[path]["scale"] == "demo"
    assert manifest.dataset == "scikit-learn digits (8x8)"
    assert len(manifest.cells) <= 50
    assert not manifest.comparable


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_claims_have_the_same_names_at_every_scale(path: Path) -> None:
    """A scale may ask of other epochs, but not another thing."""
    said = [{(claim.name, claim.says, claim.measure, claim.margin) for claim in expected(path, scale).claims}
            for scale in RAW[path]["scales"]]  # fmt: skip
    assert all(one == said[0] for one in said)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_commands_in_its_header_name_it_and_its_scales(path: Path) -> None:
    header = path.read_text(encoding="utf-8").partition("defaults:")[0]
    commands = re.findall(r"^#   harness sweep (\S+)(?: scale=(\S+))?", header, re.MULTILINE)
    assert {file for file, _ in commands} == {str(path.relative_to(ROOT))}
    assert [scale or "demo" for _, scale in commands] == list(RAW[path]["scales"])


def test_every_measure_is_used_by_some_claim() -> None:
    assert {claim.measure for path in FILES for claim in expected(path, "demo").claims} == set(MEASURES)
