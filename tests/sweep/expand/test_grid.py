"""Expansion: the product of the axes, or the union of several, with what each loss and method has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.catalog.backbones import BACKBONES, ImageSides
from harness.cell import Views
from harness.cli.shared.load_experiment import load
from harness.errors import UserError
from harness.manifest import Manifest
from harness.study.frame import ABSENT, tidy
from harness.sweep.expand.resources import resources

COMMON = """axes:
  loss: [infonce, dcl]
  batch_size: [64, 256]
  temperature: [0.1]
  epochs: [1]
  seed: [0, 1, 2]
"""
GRIDS = """axes:
  seed: [0, 1]
  temperature: [0.1]
grids:
  cold:
    loss: [infonce, dcl]
    temperature: [0.1, 0.2]
  plain:
    loss: [dcl, eqco]
    alpha: [16]
"""
OF_PAIRS = "infonce, dcl, dclw, eqco, flatnce, simclr_sq, simclr_abs, dcl_sq, dcl_abs"


def with_grids(path: Path, grids: str = GRIDS) -> Path:
    text = path.read_text()
    assert COMMON in text
    path.write_text(text.replace(COMMON, grids))
    return path


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(str(path), overrides, path.parent / "results")
    return str(caught.value)


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


def test_grids_are_a_union_with_the_common_axes_in_each(tiny: Path) -> None:
    plan = load(str(with_grids(tiny)), [], tiny.parent / "results").plan
    points = [(e.cell.loss.name, e.cell.loss.temperature, e.cell.loss.alpha, e.cell.seed) for e in plan.entries]
    assert points == [  # the common axis of seeds is innermost; dcl at .1 is in both grids and one cell
        *[("infonce", 0.1, None, seed) for seed in (0, 1)],
        *[("infonce", 0.2, None, seed) for seed in (0, 1)],
        *[("dcl", 0.1, None, seed) for seed in (0, 1)],
        *[("dcl", 0.2, None, seed) for seed in (0, 1)],
        *[("eqco", 0.1, 16.0, seed) for seed in (0, 1)],
    ]
    assert len({entry.cell.cell_id for entry in plan.entries}) == len(points)


def test_every_cell_of_several_grids_has_a_value_on_every_axis(tiny: Path) -> None:
    manifest = load(str(with_grids(tiny)), [], tiny.parent / "results").manifest
    assert manifest.axes == {
        "loss.name": ["infonce", "dcl", "eqco"],
        "loss.temperature": [0.1, 0.2],
        "seed": [0, 1],
        "loss.alpha": [None, 16.0],
    }
    assert all(cell.axes.keys() == manifest.axes.keys() for cell in manifest.cells)


def test_a_grid_and_its_axes_can_be_changed_on_the_command_line(tiny: Path) -> None:
    overrides = ["grids.cold.temperature=[0.5]", "axes.seed=[7]", "~grids.plain"]
    plan = load(str(with_grids(tiny)), overrides, tiny.parent / "results").plan
    assert {(e.cell.loss.name, e.cell.loss.temperature, e.cell.seed) for e in plan.entries} == {
        ("infonce", 0.5, 7),
        ("dcl", 0.5, 7),
    }


@pytest.mark.parametrize(
    ("grids", "words"),
    [
        ("grids:\n  plain: [dcl]\n", ["tiny.yaml:17: grids.plain", "a grid is a mapping of axes", "NAME: {AXIS"]),
        ("grids:\n  plain:\n    los: [dcl]\n", ["tiny.yaml:18: grids.plain.los", "did you mean 'loss'"]),
        ("grids:\n  plain:\n    loss: [dcll]\n", ["tiny.yaml:18: grids.plain.loss", "did you mean 'dcl'"]),
        ("grids:\n  plain:\n    loss: dcl\n", ["tiny.yaml:18: grids.plain.loss", "an axis is a list"]),
        ("grids:\n  plain:\n    alpha: [0.5]\n    loss: [eqco]\n",
         ["tiny.yaml:18: grids.plain.alpha: eqco: alpha 0.5 is out of range", "1 <= value"]),
    ],
)  # fmt: skip
def test_mistakes_in_a_grid_are_refused_with_their_line(tiny: Path, grids: str, words: list[str]) -> None:
    message = refused(with_grids(tiny, grids))
    for word in words:
        assert word in message


def test_what_a_loss_or_method_lacks_is_none_in_the_manifest_and_a_dash_in_the_table(tiny: Path) -> None:
    overrides = ["axes.loss=[infonce,eqco,barlow_twins]", "axes.alpha=[16]", "axes.method.queue=[8]", "axes.seed=[0]"]
    manifest = load(str(tiny), [*overrides, "axes.batch_size=[64]"], tiny.parent / "results").manifest
    lacking = [(cell.axes["loss.alpha"], cell.axes["loss.temperature"]) for cell in manifest.cells]
    assert lacking == [(None, 0.1), (16.0, 0.1), (None, None)]
    assert {cell.axes["method.queue"] for cell in manifest.cells} == {None}
    table = tidy(manifest, tiny.parent / "results")
    assert table.frame["alpha"].tolist() == [ABSENT, 16.0, ABSENT]
    assert table.frame["temperature"].tolist() == [0.1, 0.1, ABSENT]
    assert ABSENT == "–"


def test_a_field_that_a_method_lacks_does_not_change_its_cells(tiny: Path) -> None:
    results = tiny.parent / "results"
    first = load(str(tiny), [], results).manifest
    assert load(str(tiny), ["method.queue=64", "method.ema=0.5"], results).manifest.cells == first.cells


def test_a_method_gets_its_own_defaults_beside_what_was_declared(tiny: Path) -> None:
    overrides = ["axes.method=[simclr,moco,simo]", "method.ema=0.5", "axes.seed=[0]", "axes.batch_size=[64]"]
    plan = load(str(tiny), overrides, tiny.parent / "results").plan
    found = {
        (m.name, m.queue, m.ema, m.symmetric, m.shuffle, m.negatives) for m in (e.cell.method for e in plan.entries)
    }
    assert found == {
        ("simclr", None, None, None, None, None),
        ("moco", 65536, 0.5, False, True, None),
        ("simo", None, 0.5, None, None, 256),
    }


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["axes.loss=[dcl,vicreg]", "axes.method=[simclr,moco]"],
         ["axes.loss=[dcl,vicreg]: moco chooses the candidates of each query, which vicreg cannot take", OF_PAIRS]),
        (["axes.loss=[sogclr]", "method=nnclr"], ["nnclr chooses the candidates of each query, which sogclr"]),
        (["bn_groups=3"], ["bn_groups=3: a batch of 64 cannot be divided into 3 groups", "64, at most 32"]),
        (["axes.bn_groups=[1,64]"], ["axes.bn_groups=[1,64]: a batch of 64 cannot be divided into 64"]),
        (["optimizer=adam", "optimizer.bias_lr=0.1"],
         ["optimizer.bias_lr=0.1: adam has no bias_lr", "null, or optimizer.name: sgd or lars"]),
        (["optimizer.trust=0.02"], ["optimizer.trust=0.02: sgd has no trust", "null, or optimizer.name: lars"]),
        (["optimizer=lars", "optimizer.warmup_epochs=0", "optimizer.trust=0"], ["0.0 is out of range", "value > 0"]),
        (["optimizer.beta2=0.9"], ["optimizer.beta2=0.9: sgd has no beta2", "adam or adamw"]),
        (["optimizer=adam", "optimizer.beta2=1"], ["optimizer.beta2=1: 1.0 is out of range"]),
        (["optimizer.schedule=cosin"], ["unknown schedule 'cosin', did you mean 'cosine'?"]),
        (["optimizer.schedule=constant", "optimizer.lr_end=0.1"],
         ["optimizer.lr_end=0.1: the schedule constant does not end at a part", "optimizer.schedule: cosine"]),
        (["optimizer.warmup_steps=5", "optimizer.warmup_epochs=1"],
         ["optimizer.warmup_steps=5: the warm-up is declared in epochs and in steps", "optimizer.warmup_epochs: 0"]),
        (["optimizer.warmup_steps=100000"],
         ["optimizer.warmup_steps=100000: a warm-up of 100000 steps leaves nothing of"]),
        (["optimizer.clip_norm=0"], ["optimizer.clip_norm=0: 0.0 is out of range", "value > 0"]),
        (["bn_passes=3"], ["bn_passes=3: 3 is out of range", "1 <= value <= 2"]),
        (["method=simo", "axes.loss=[infonce]", "bn_passes=2"],
         ["bn_passes=2: each network of simo encodes one view of a sample, in one pass", "allowed: 1"]),
        (["method=moco", "axes.bn_passes=[1,2]"],
         ["axes.bn_passes=[1,2]: each network of moco encodes one view", "1, or method.symmetric=true"]),
        (["cluster.gpus=3"], ["cluster.gpus=3: 3 ranks cannot share a batch of 64", "a divisor of 64"]),
        (["cluster.gpus=6", "bn_groups=4", "axes.batch_size=[48]"],
         ["cluster.gpus=6: 6 ranks cannot hold 4 batch-norm groups", "a divisor or a multiple of bn_groups (4)"]),
        (["cluster.micro_batch=24"], ["cluster.micro_batch=24: micro-batches of 24 cannot make up", "divisor of 64"]),
        (["cluster.micro_batch=16", "cluster.gpus=2", "bn_groups=2"],
         ["bn_groups=2: a batch-norm group of 32 samples does not pass the network whole in micro-batches of 16",
          "bn_groups: a multiple of 4 at batch size 64", "derive: {bn_groups: {groups_of: 16}}"]),
        (["cluster.micro_batch=1"], ["cluster.micro_batch=1: 1 is out of range", "2 <= value"]),
        (["cluster.gpus=0"], ["cluster.gpus=0: 0 is out of range", "1 <= value"]),
        (["method=moco", "method.queue=0"], ["method.queue=0: moco: queue 0 is out of range", "1 <= value"]),
        (["axes.method=[moco]", "axes.queue=[4,0]"], ["axes.queue=[4,0]: moco: queue 0 is out of range"]),
        (["axes.method=[moco]", "axes.queue=[4.5]"], ["axes.queue=[4.5]: 4.5 is not of type int"]),
        (["method=moco", "method.ema=1.5"], ["method.ema=1.5: moco: ema 1.5 is out of range", "0 <= value <= 1"]),
        (["axes.method=[simo]", "axes.ema=[0.9,-0.1]"], ["axes.ema=[0.9,-0.1]: simo: ema -0.1 is out of range"]),
        (["axes.loss=[eqco]", "loss.alpha=0.5"], ["loss.alpha=0.5: eqco: alpha 0.5 is out of range", "1 <= value"]),
        (["axes.loss=[infonce,eqco]", "axes.alpha=[16,256]"], ["axes.alpha=[16,256]: infonce has no alpha: two"]),
        (["axes.method.queue=[4,8]"],
         ["axes.method.queue=[4,8]: simclr has no queue: two points of the grid are one cell", "grids: of those that"]),
        (["axes.method=[simclr,moco]", "axes.queue=[4,8]"], ["simclr has no queue: two points of the grid"]),
        (["axes.loss=[dclw]", "axes.detach_weights=[3]"], ["axes.detach_weights=[3]: 3 is not of type bool"]),
        (["loss.detach_weights=3"], ["command line: loss.detach_weights=3: 3 is not of type bool"]),
        (["method.symmetric=1"], ["command line: method.symmetric=1: 1 is not of type bool"]),
        (["loss.detach_weights=perhaps"], ["loss.detach_weights=perhaps", "'perhaps' is not"]),
        (["backbone.stem=imagenett"], ["backbone.stem=imagenett: unknown stem", "did you mean 'imagenet'"]),
        (["backbone.stem=imagenet"], ["backbone.stem=imagenet: convnet has no stem 'imagenet'", "allowed: cifar"]),
        (["axes.stem=[cifar,imagenet]"], ["axes.stem=[cifar,imagenet]: convnet has no stem 'imagenet'"]),
        (["views=moco_v3"], ["command line: views=moco_v3: no views 'moco_v3', did you mean 'moco_v2'?"]),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_by_its_place(tiny: Path, overrides: list[str], words: list[str]) -> None:
    message = refused(tiny, *overrides)
    for word in words:
        assert word in message


@pytest.mark.parametrize(("ranks", "groups"), [(2, 1), (1, 4), (4, 4), (4, 2), (2, 8)])
def test_ranks_hold_whole_groups_or_groups_whole_ranks(tiny: Path, ranks: int, groups: int) -> None:
    overrides = [f"cluster.gpus={ranks}", f"bn_groups={groups}", "cluster.device=cpu"]
    declared = load(str(tiny), overrides, tiny.parent / "results")
    assert {entry.cell.bn_groups for entry in declared.plan.entries} == {groups}
    given = resources(declared.declaration)
    assert {given(entry.cell).world_size for entry in declared.plan.entries} == {ranks}


MOCO_V2 = Views(crop_min=0.2, flip=0.5, jitter=0.5, gray=0.2, blur=0.5)


def views_of(path: Path, *overrides: str) -> Views:
    (views,) = {entry.cell.views for entry in load(str(path), overrides, path.parent / "results").plan.entries}
    return views


def test_a_group_that_the_file_does_not_name_can_be_chosen_on_the_command_line(tiny: Path) -> None:
    assert views_of(tiny).flip == 0.0, "the digits' own"
    assert views_of(tiny, "views=moco_v2") == MOCO_V2
    assert views_of(tiny, "views=moco_v2", "views.blur=0.1").blur == 0.1


def test_a_group_that_the_file_does_not_name_can_be_chosen_by_a_scale(tiny: Path) -> None:
    tiny.write_text(
        f"{tiny.read_text()}  strong:\n    views: moco_v2\n  less:\n    views: moco_v2\n    views.blur: 0.1\n"
    )
    assert views_of(tiny, "scale=strong") == MOCO_V2
    assert views_of(tiny, "scale=less").blur == 0.1
    assert views_of(tiny, "scale=strong", "views=simclr_cifar").crop_min == 0.08
    assert views_of(tiny).flip == 0.0, "another scale's views are its own"


def test_an_image_side_between_those_that_a_backbone_takes_is_refused(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = {"cifar": ImageSides(6, 64, multiple_of=6)}
    monkeypatch.setitem(BACKBONES, "convnet", replace(BACKBONES["convnet"], sides=sides))
    what = "convnet with the cifar stem takes images of 6 to 64 pixels (a multiple of 6), not 8"
    assert f"command line: backbone=convnet: {what}" in refused(tiny, "backbone=convnet")
    assert f"tiny.yaml: backbone.name (default): {what}" in refused(tiny)
