"""Expansion: the product of the axes, with what each loss has."""

from __future__ import annotations

import json
from pathlib import Path

from harness.cli.declared import load
from harness.manifest import Manifest


def test_every_point_is_a_cell_and_seeds_are_innermost(tiny: Path) -> None:
    plan = load(str(tiny), [], tiny.parent / "results").plan
    points = [(e.cell.loss.name, e.cell.batch_size, e.cell.seed) for e in plan.entries]
    assert points[:4] == [("infonce", 64, 0), ("infonce", 64, 1), ("infonce", 64, 2), ("infonce", 256, 0)]
    assert len({entry.cell.cell_id for entry in plan.entries}) == len(points) == 12


def test_a_losss_own_parameters_get_their_defaults_and_others_none(tiny: Path) -> None:
    plan = load(str(tiny), ["axes.loss=[infonce,dclw]", "axes.seed=[0]"], tiny.parent / "results").plan
    assert {(e.cell.loss.name, e.cell.loss.sigma) for e in plan.entries} == {("infonce", None), ("dclw", 0.5)}


def test_declared_sigma_does_not_change_losses_without_it(tiny: Path) -> None:
    results = tiny.parent / "results"
    first = load(str(tiny), [], results).manifest
    assert load(str(tiny), ["loss.sigma=0.3"], results).manifest.cells == first.cells


def test_what_is_told_to_a_run_does_not_rename_it(tiny: Path) -> None:
    results = tiny.parent / "results"
    first = load(str(tiny), [], results).manifest
    for override in ("cluster.slots=1", "evaluate.every=7", "dataset.title=x", "title=y"):
        assert load(str(tiny), [override], results).manifest.cells == first.cells


def test_the_manifest_survives_its_file(tiny: Path) -> None:
    manifest = load(str(tiny), ["axes.seed=[0,1]"], tiny.parent / "results").manifest
    path = manifest.write(tiny.parent / "results")
    assert Manifest.read(tiny.parent / "results", "tiny.demo") == manifest
    assert json.loads(path.read_text())["overrides"] == ["axes.seed=[0,1]"]
