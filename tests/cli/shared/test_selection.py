"""How verbs name cells: experiments, ids, filters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.cell import Cell, Loss
from harness.cli.shared.selection import Selection, named_cells, select
from harness.errors import UserError
from harness.store.index import Index
from tests.support.results import Results, another_seed


def chosen(results: Results, *words: str) -> Selection:
    return select(words, results.path, Index(results.path / "runs"))


def ids(results: Results, *words: str) -> list[str]:
    return chosen(results, *words).cell_ids


def test_an_experiment_is_all_that_was_declared(results: Results) -> None:
    declared = [cell.cell_id for cell in results.cells]
    assert ids(results) == ids(results, "tiny.demo") == ids(results, "tiny", "scale=demo") == declared


def test_a_file_is_its_default_scale(results: Results) -> None:
    file = results.path / "tiny.yaml"
    file.write_text("scale: demo\n")
    assert ids(results, str(file)) == ids(results, "tiny.demo")
    with pytest.raises(UserError, match=r"no manifest of 'tiny.large'"):
        chosen(results, str(file), "scale=large")


def test_a_filter_leaves_what_fulfils_it_begun_or_not(results: Results) -> None:
    dcl, other = results.cells[0], another_seed(results.cells[0])
    results.fail(dcl)
    results.finish(other)
    assert ids(results, "loss=dcl", "seed=0") == [dcl.cell_id]
    assert ids(results, "loss=dcl seed=0") == [dcl.cell_id]
    assert ids(results, "state=failed") == [dcl.cell_id]
    assert ids(results, "state=missing") == [cell.cell_id for cell in results.cells[1:]]
    assert ids(results, "epochs=4", "seed=9") == [other.cell_id], "of all records"
    assert ids(results, "tiny.demo", "epochs>3 state=missing,failed") == [cell.cell_id for cell in results.cells]


def test_ids_are_found_by_their_beginnings_in_their_experiment(results: Results) -> None:
    results.finish(results.cells[2])
    found = chosen(results, results.cells[2].cell_id[:6])
    assert found.cell_ids == [results.cells[2].cell_id]
    assert [group.name for group in found.groups] == ["tiny.demo"]
    with pytest.raises(UserError, match="no cells begin with"):
        chosen(results, "0" * 8)


def test_experiments_and_ids_together(results: Results) -> None:
    other = another_seed(results.cells[0])
    results.finish(other)
    found = chosen(results, "tiny.demo", other.cell_id)
    assert found.cell_ids == [*(cell.cell_id for cell in results.cells), other.cell_id]
    assert [group.name for group in found.groups] == ["tiny.demo", "of no experiment"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["batchsize=64"], "did you mean 'batch_size'"),
        (["batchsize=64"], "allowed: scale=NAME, state, collapsed, "),
        (["loss=infonse"], "loss: dcl, infonce"),
        (["state=fialed"], "state: missing"),
        (["tiny.demo", "width>64"], "width: 64"),
        (["sigma<1"], "sigma: no values"),
        (["batch_size<"], "is not a condition"),
        (["nothing.demo"], "no manifest of 'nothing.demo'"),
    ],
)
def test_mistakes(results: Results, words: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        chosen(results, *words)
    assert said in str(refused.value)


def test_a_users_own_parameter_is_known_by_its_records(results: Results) -> None:
    cells = [Cell(loss=Loss("mine", own={"margin": margin})) for margin in (1.0, 2.0)]
    for cell in cells:
        results.finish(cell)
    for name in ("margin", "own.margin", "loss.own.margin"):
        assert ids(results, f"{name}=2") == [cells[1].cell_id]
    assert set(chosen(results, "loss=mine").names.values()) == {"margin=1.0", "margin=2.0"}


def test_names_hold_what_differs_between_the_chosen(results: Results) -> None:
    results.finish(results.cells[0])
    other = replace(results.cells[0], epochs=5)
    results.finish(other)
    assert list(chosen(results).groups[0].cells) == list(chosen(results, "tiny.demo").groups[0].cells)
    assert next(iter(chosen(results, "tiny.demo").names.values())) == "loss=dcl seed=0"
    assert list(chosen(results, "tiny.demo", "loss=dcl").names.values()) == ["seed=0", "seed=1"]
    assert list(chosen(results, "tiny.demo", "loss=dcl seed=1").names.values()) == ["loss=dcl seed=1"]
    both = chosen(results, results.cells[0].cell_id, other.cell_id)
    assert both.names == {results.cells[0].cell_id: "epochs=4", other.cell_id: "epochs=5"}


def test_a_cell_that_differs_from_nothing_is_named_by_its_values(results: Results) -> None:
    results.declare("alone", results.cells[:1], axes={"loss.name": ["dcl"], "batch_size": [256], "seed": [0]})
    (name,) = chosen(results, "alone.demo").names.values()
    assert name == "loss=dcl batch_size=256 seed=0"
    results.finish(results.cells[0])
    (name,) = chosen(results, results.cells[0].cell_id).names.values()
    assert name == "loss=dcl batch_size=256 seed=0", "of two experiments"
    other = another_seed(results.cells[0])
    results.finish(other)
    (name,) = chosen(results, other.cell_id).names.values()
    assert name == "loss=dcl batch_size=256 seed=9", "of no experiment"


def test_a_cell_of_an_experiment_without_axes_is_named_by_what_was_declared(results: Results) -> None:
    cell_id = results.cells[0].cell_id
    results.declare("plain", results.cells[:1], axes={})
    assert chosen(results, "plain.demo").names == {cell_id: "loss=dcl batch_size=256 seed=0"}


def test_cells_that_were_never_begun_have_the_values_that_were_declared(results: Results) -> None:
    others = [replace(cell, epochs=5) for cell in results.cells]
    results.declare("longer", others)
    results.finish(results.cells[0])
    names = chosen(results).names
    assert names[results.cells[0].cell_id] == "loss=dcl epochs=4 seed=0"
    assert names[others[3].cell_id] == "loss=infonce epochs=5 seed=1"


def test_a_manifest_belongs_to_cells_that_are_named_by_their_experiment(results: Results) -> None:
    results.finish(results.cells[0])
    manifest, cells = named_cells(["tiny.demo", "loss=dcl"], results.path)
    assert manifest
    assert (manifest.name, len(manifest.cells)) == ("tiny.demo", 4)
    assert [name for name, _ in cells] == ["seed=0", "seed=1"]
    assert named_cells([results.cells[0].cell_id], results.path)[0] is None


def test_an_empty_folder(tmp_path: Path) -> None:
    assert select([], tmp_path, Index(tmp_path / "runs")).cell_ids == []
