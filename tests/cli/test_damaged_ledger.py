"""A damaged ledger of another sweep: it is named, and stops no sweep."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from harness.cli.sweep import _refuse_to_forget
from harness.errors import UserError
from harness.manifest import Manifest
from harness.store.index import Index
from harness.store.sweeps.ledger import Ledger, Policy
from tests.support.results import Results

if TYPE_CHECKING:
    from harness.sweep.launch import Declared


@pytest.mark.parametrize("name", ["sweep.json", "manifest.json", ""])
def test_a_damaged_ledger_of_another_sweep_is_named_and_stops_no_sweep(
    results: Results, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.open(results.path, "tiny.demo", Policy())
    manifest = Manifest.read(results.path, "tiny.demo")
    manifest.save(ledger.manifest)
    path = ledger.path / name
    if not name:
        shutil.rmtree(path)
    path.write_text("damaged")
    plan = SimpleNamespace(index=Index(results.path / "runs"))
    _refuse_to_forget(cast("Declared", SimpleNamespace(manifest=manifest, plan=plan)), results.path, "again")
    assert f"damaged: {path}: " in capsys.readouterr().err
    if name == "sweep.json":  # the sweep goes on, and its manifest says what it has yet to train
        fewer = SimpleNamespace(manifest=replace(manifest, cells=manifest.cells[1:]), plan=plan)
        with pytest.raises(UserError, match=r"goes on \(process \? on \?\), and 1 cell"):
            _refuse_to_forget(cast("Declared", fewer), results.path, "again")
