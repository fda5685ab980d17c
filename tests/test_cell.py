"""A cell's identity: stable, and of exactly the fields that change the numbers."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cell import BIRTH_VALUES, Backbone, Cell, Dataset, Loss, canonical_json, from_dict, get, paths


def test_cell_id_is_pinned() -> None:
    # A change here orphans every record that exists: it must be meant, and said in the changelog.
    assert Cell().cell_id == "c4628a01670e"


def test_a_parameter_that_the_loss_lacks_is_no_part_of_the_identity() -> None:
    assert "sigma" not in canonical_json(Cell(loss=Loss("dcl")))
    assert Cell(loss=Loss("dclw", sigma=0.5)).cell_id != Cell(loss=Loss("dclw", sigma=0.3)).cell_id


def changed(value: object, hint: object) -> object:
    """Another value of the field's type."""
    if "dict" in str(hint):
        return {"margin": 0.5}
    if isinstance(value, bool) or "bool" in str(hint):
        return not value
    return f"{value}x" if isinstance(value, str) else (value or 0) + 1


@given(st.sampled_from(sorted(paths())))
def test_every_declared_field_changes_the_identity(path: str) -> None:
    cell = Cell(loss=Loss("dclw", sigma=0.5, detach_weights=True))
    tree = dataclasses.asdict(cell)
    *parents, leaf = path.split(".")
    node = tree
    for parent in parents:
        node = node[parent]
    node[leaf] = changed(node[leaf], paths()[path])
    assert from_dict(Cell, tree).cell_id != cell.cell_id


@pytest.mark.parametrize("path", sorted(BIRTH_VALUES))
def test_a_field_added_later_is_left_out_while_it_holds_its_birth_value(path: str) -> None:
    # The values with which cells were trained before the fields existed: they never change.
    leaf = path.rsplit(".", 1)[-1]
    born = Cell(loss=Loss("dclw", sigma=0.5, detach_weights=True))
    assert get(born, path) == BIRTH_VALUES[path]
    assert f'"{leaf}"' not in canonical_json(born)


def test_birth_values_are_pinned() -> None:
    assert BIRTH_VALUES == {
        "backbone.stem": "cifar",
        "bn_groups": 1,
        "head.layers": 2,
        "head.norm": "hidden",
        "loss.detach_weights": True,
        "views.blur": 0.0,
    }


def test_other_data_under_the_same_name_are_another_cell() -> None:
    assert Cell(dataset=Dataset(fingerprint="a")).cell_id != Cell(dataset=Dataset(fingerprint="b")).cell_id


def test_a_raised_version_is_another_cell() -> None:
    assert Cell(versions={"loss": 1}).cell_id != Cell(versions={"loss": 2}).cell_id


def test_one_number_has_one_identity_whether_written_1_or_1_0() -> None:
    written = from_dict(Cell, {"loss": {"temperature": 1}, "optimizer": {"lr": 1}})
    assert written.cell_id == from_dict(Cell, {"loss": {"temperature": 1.0}, "optimizer": {"lr": 1.0}}).cell_id


def test_json_round_trip_keeps_the_identity() -> None:
    cell = Cell(backbone=Backbone("convnet", 3), loss=Loss("dclw", 0.2, 0.5), versions={"loss": 1})
    assert from_dict(Cell, json.loads(json.dumps(dataclasses.asdict(cell)))) == cell


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(TypeError):
        from_dict(Cell, {"batchsize": 3})


def test_paths_name_what_users_declare() -> None:
    assert paths()["optimizer.lr"] is float
    assert "dataset.fingerprint" not in paths()
    assert get(Cell(batch_size=7), "batch_size") == 7
