"""A manifest that cannot be read is named, and harms no other experiment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.cell import Cell
from tests.support.results import Results, as_json, harness

DAMAGES = {
    "torn": '{"experiment": "hurt", "cel',
    "empty": "",
    "another version": '{"experiment": "hurt", "cells": [{"cell": 1}]}',
    "no claims": '{"experiment": "hurt", "cells": [], "claims": [[]]}',
    "a field of another version": '{"experiment": "hurt", "scale": "demo", "title": "", "question": "", "caveat": "", '
    '"comparable": true, "dataset": "digits", "axes": {}, "cells": [], "claims": [], "evaluation": {}, '
    '"settings": {"colour": 1}, "overrides": [], "revision": ""}',
}


@pytest.fixture(params=sorted(DAMAGES))
def hurt(results: Results, request: pytest.FixtureRequest) -> Cell:
    """A finished cell of an experiment whose manifest is damaged, beside a finished, a failed and a queued one."""
    cell = replace(results.cells[0], epochs=9)
    results.declare("hurt", [cell])
    file(results).write_text(DAMAGES[request.param])
    for finished in (cell, results.cells[0]):
        results.finish(finished)
    results.fail(results.cells[1])
    results.queue(results.cells[2])
    return cell


def file(results: Results) -> Path:
    return results.path / "manifests" / "hurt.demo.json"


def test_status_of_everything_names_it_and_goes_on(results: Results, hurt: Cell) -> None:
    code, said = harness("status", results=results.path)
    assert code == 0
    assert "tiny.demo: 4 cells: 1 missing, 1 queued, 1 finished, 1 failed" in said
    assert f"hurt.demo: {file(results)}: the manifest is damaged, or of another version of harness" in said
    assert "next:    the same harness sweep again" in said
    listed = as_json("status", results=results.path)
    (damaged,) = [experiment for experiment in listed if "error" in experiment]
    assert set(damaged) == {"name", "error"}
    assert damaged["name"] == "hurt.demo"
    assert str(file(results)) in damaged["error"]
    assert [experiment["name"] for experiment in listed] == ["tiny.demo", "of no experiment", "hurt.demo"]


def test_watching_everything_goes_on(results: Results, hurt: Cell) -> None:
    assert as_json("cancel", "tiny.demo", "--yes", results=results.path)
    for folder in (results.path / "sweeps").iterdir():
        (folder / "heartbeat").unlink()
    code, said = harness("status", "--watch", results=results.path)
    assert (code, "the manifest is damaged" in said) == (0, True)


def test_verbs_of_other_experiments_go_on(results: Results, hurt: Cell) -> None:
    assert as_json("status", "tiny.demo", results=results.path)[0]["name"] == "tiny.demo"
    assert as_json("status", results.cells[0].cell_id, results=results.path)[0]["counts"] == {"finished": 1}
    assert as_json("logs", "state=failed", results=results.path)[0]["cell_id"] == results.cells[1].cell_id
    assert as_json("retry", results.cells[0].cell_id, results=results.path) == []
    assert as_json("cancel", "state=queued", "--yes", results=results.path)[0]["cell_id"] == results.cells[2].cell_id
    assert len(as_json("gc", "--yes", results=results.path)["files"]) == 4, "a finished cell is one in any case"


@pytest.mark.parametrize("verb", ["status", "logs", "cancel", "retry", "gc"])
def test_who_names_it_gets_the_error(results: Results, hurt: Cell, verb: str) -> None:
    code, said = harness(verb, "hurt.demo", results=results.path)
    assert code == 2
    assert f"{file(results)}: the manifest is damaged, or of another version of harness" in said
