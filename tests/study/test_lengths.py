"""Reports of cells that train for a number of steps, and of fields that follow from others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.manifest import Manifest
from harness.study.frame import tidy
from harness.study.report.content import content, study
from harness.study.text import ABSENT

Synthetic = Callable[..., tuple[Manifest, Path]]
DERIVED = ("derive.warmup_epochs={fraction_of_epochs:0.1}", "derive.bn_groups={groups_of:32}")


@pytest.mark.parametrize("how", [["~axes.epochs", "budget.steps=20"], ["~axes.epochs", "axes.steps=[20]"]])
def test_batch_sizes_are_compared_at_equal_steps_though_their_epochs_differ(
    synthetic: Synthetic, how: list[str]
) -> None:
    manifest, results = synthetic(lambda axes: 50.0, *how, *DERIVED)
    table = tidy(manifest, results)
    assert set(table.frame["epochs"]) == {ABSENT}
    assert table.main_axis == "batch_size"
    assert set(table.frame["steps"]) == {20}
    printed = content(study(table))
    assert "steps 20" in printed.design.varied
    assert (printed.design.warmup, printed.design.bn_groups) == ("derived epochs", "derived")
