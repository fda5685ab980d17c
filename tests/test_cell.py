"""A cell's identity: stable, and of exactly the fields that change the numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cell import (
    BIRTH_VALUES,
    Backbone,
    Cell,
    Dataset,
    Loss,
    canonical_json,
    from_dict,
    get,
    paths,
    versionless_id,
)


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
        "bn_passes": 1,
        "dataset.stream": False,
        "head.layers": 2,
        "head.norm": "hidden",
        "loss.detach_weights": True,
        "optimizer.lr_end": 0.0,
        "optimizer.schedule": "cosine",
        "steps": None,
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
    assert paths()["optimizer.lr"] == (float,)
    assert "dataset.fingerprint" not in paths()
    assert get(Cell(batch_size=7), "batch_size") == 7


def test_kin_are_cells_that_differ_in_versions_alone() -> None:
    before, after = Cell(versions={"loss": 1}), Cell(versions={"loss": 2})
    assert versionless_id(before) == versionless_id(after) == versionless_id(Cell())
    assert versionless_id(Cell(seed=1)) != versionless_id(Cell())
    assert len(versionless_id(Cell())) == 12


def plain_json(cell: Cell) -> str:
    """The definition of ``canonical_json``: nothing is remembered, nothing is put together from parts."""

    def kept(node: object, path: str = "") -> object:
        if not isinstance(node, dict):
            return node
        below = {key: f"{path}.{key}" if path else key for key in node}
        born = {key for key in node if below[key] in BIRTH_VALUES and node[key] == BIRTH_VALUES[below[key]]}
        return {key: kept(value, below[key]) for key, value in node.items() if value is not None and key not in born}

    return json.dumps(kept(dataclasses.asdict(cell)), sort_keys=True, separators=(",", ":"))


def any_of(hint: object) -> st.SearchStrategy[object]:
    kinds: dict[object, st.SearchStrategy[object]] = {
        bool: st.booleans(),
        int: st.integers(),
        float: st.floats(allow_nan=False),
        str: st.text(),
        dict[str, float]: st.dictionaries(st.text(), st.floats(allow_nan=False) | st.none()),
        type(None): st.none(),
    }
    return st.one_of(*(kinds[one] for one in (typing.get_args(hint) if isinstance(hint, types.UnionType) else [hint])))


def any_component(cls: type) -> st.SearchStrategy[object]:
    """With birth values among the rest."""
    hints = typing.get_type_hints(cls)
    born = {path.rsplit(".", 1)[-1]: value for path, value in BIRTH_VALUES.items()}
    return st.builds(
        cls,
        **{name: any_of(hint) | st.just(born[name]) if name in born else any_of(hint) for name, hint in hints.items()},
    )


CELLS = st.builds(
    Cell,
    **{name: any_component(cls) for name, cls in typing.get_type_hints(Cell).items() if dataclasses.is_dataclass(cls)},
    **{name: st.integers() | st.just(1) for name in ("batch_size", "bn_groups", "bn_passes", "epochs", "seed")},
    steps=st.integers() | st.none(),
    precision=st.text(),
    versions=st.dictionaries(st.text(), st.integers()),
)  # fmt: skip


@pytest.mark.e2e
@given(CELLS)
def test_an_identity_put_together_from_parts_is_the_plain_one_to_the_byte(cell: Cell) -> None:
    assert canonical_json(cell) == plain_json(cell)
    assert cell.cell_id == hashlib.sha256(plain_json(cell).encode()).hexdigest()[:12]
    again = dataclasses.replace(cell, seed=cell.seed + 1)
    assert canonical_json(again) == plain_json(again)
