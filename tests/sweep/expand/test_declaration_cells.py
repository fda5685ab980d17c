"""Which cells there are: what is excluded and included, what coincides, what follows from the rest."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.manifest import Exclusion, Manifest
from harness.store.submission import RunConfig
from harness.sweep.declare.compose import declare
from harness.sweep.expand.resources import Resources, resources
from tests.support.declarations import declared, expanded, manifest, points, refused

AXES = """axes:
  loss: [infonce, dcl]
  batch_size: [32, 64, 256]
  seed: 2
"""
EXCLUDED = f"""{AXES}exclude:
  - {{where: loss=dcl batch_size<=64, reason: diverges there}}
  - {{where: batch_size=32, reason: too slow}}
"""
TWO_GRIDS = """axes: {seed: 2, temperature: [0.1]}
grids:
  cold: {loss: [infonce, dcl]}
  plain: {loss: [dcl, eqco]}
"""


def test_what_is_excluded_is_not_trained_and_stands_in_the_manifest_with_its_reason(tiny: Path) -> None:
    found = set(points(declared(tiny, EXCLUDED), "loss.name batch_size"))
    assert found == {("infonce", 64), ("infonce", 256), ("dcl", 256)}
    expected = manifest(tiny)
    assert expected.exclusions == [
        Exclusion("loss=dcl batch_size<=64", "diverges there", 4),
        Exclusion("batch_size=32", "too slow", 2),  # of four, two are excluded already
    ]
    expected.write(tiny.parent)
    assert Manifest.read(tiny.parent, "tiny.demo") == expected
    assert "4 cells are excluded, loss=dcl batch_size<=64: diverges there" in expanded(tiny).notes()
    one = "exclude=[{where:'loss=dcl batch_size=64 seed=0',reason:'it diverged'}]"
    assert "1 cell is excluded, loss=dcl batch_size=64 seed=0: it diverged" in expanded(tiny, one).notes()


def test_exclusions_can_be_taken_back_and_a_scale_has_its_own(tiny: Path) -> None:
    declared(tiny, EXCLUDED)
    tiny.write_text(f"{tiny.read_text()}  all:\n    exclude: []\n  one:\n    exclude: [{{where: seed=1, reason: y}}]\n")
    assert len(expanded(tiny, "exclude=[]").cells) == len(expanded(tiny, "scale=all").cells) == 12
    assert set(points(tiny, "seed", "scale=one")) == {(0,)}


def test_what_cannot_run_may_be_excluded(tiny: Path) -> None:
    path = declared(tiny, "axes:\n  method: [simclr, moco]\n  loss: [dcl, vicreg]\n  batch_size: [64, 2048]\n")
    assert "batch size 2048 is larger" in refused(path)
    path.write_text(f"{path.read_text()}exclude:\n  - {{where: method=moco loss=vicreg, reason: no negatives}}\n"
                    "  - {where: batch_size=2048, reason: more than there are}\n")  # fmt: skip
    assert set(points(path, "method.name loss.name")) == {("simclr", "dcl"), ("simclr", "vicreg"), ("moco", "dcl")}


def test_single_cells_are_included_after_what_is_excluded(tiny: Path) -> None:
    path = declared(tiny, EXCLUDED)
    path.write_text(f"{path.read_text()}include:\n  - {{loss: dcl, batch_size: 1024, seed: 7}}\n"
                    "  - {loss: dcl, batch_size: 32, seed: 0, lr: 0.5}\n")  # fmt: skip
    found = points(path, "loss.name batch_size seed optimizer.lr")
    assert found[-2:] == [("dcl", 1024, 7, 0.06), ("dcl", 32, 0, 0.5)]
    assert len(found) == 8
    assert manifest(path).axes["optimizer.lr"] == [0.06, 0.5]


def test_an_axis_of_one_value_may_be_left_out_of_an_included_cell(tiny: Path) -> None:
    path = declared(
        tiny,
        "axes: {loss: [dcl, eqco], batch_size: [64], lr: [0.3], alpha: [16], queue: [8]}\n"
        "when: {alpha: loss=eqco}\ninclude:\n  - {loss: infonce, batch_size: 32}\n  - {loss: eqco, method: moco}\n",
    )
    found = points(path, "method.name loss.name batch_size optimizer.lr loss.alpha method.queue")
    assert found[-2:] == [("simclr", "infonce", 32, 0.3, None, None), ("moco", "eqco", 64, 0.3, 16, 8)]


def test_an_axis_that_another_grid_lacks_has_several_values(tiny: Path) -> None:
    path = declared(tiny, "grids:\n  a: {lr: [0.3], seed: [0]}\n  b: {seed: [0]}\ninclude: [{loss: dcl}]\n")
    assert "include[0]: lr has several values and is not named" in refused(path)


def test_a_cell_of_two_grids_is_one_and_counted(tiny: Path) -> None:
    found = expanded(declared(tiny, TWO_GRIDS))
    shared = [cell.cell_id for cell, _ in found.cells if cell.loss.name == "dcl"]
    assert found.shared_between_grids == dict.fromkeys(shared, ("cold", "plain"))
    assert found.notes() == ["2 cells stand in 2 grids (cold, plain) and are trained once"]
    assert manifest(tiny).coinciding == 2
    tiny.write_text(f"{tiny.read_text()}include: [{{loss: eqco, seed: 0}}]\n")
    again = expanded(tiny)
    assert len(again.cells) == len(found.cells)
    assert "1 cell stands in 2 grids (plain, include[0]) and is trained once" in again.notes()


def test_rules_derive_fields_from_the_batch_size_and_the_epochs(tiny: Path) -> None:
    path = declared(
        tiny,
        "optimizer: {lr_rule: constant}\nmethod: {queue: 8}\naxes: {batch_size: [64, 1024], epochs: [3, 10]}\nderive:\n"
        "  warmup_epochs: {fraction_of_epochs: 0.1}\n  lr: {sqrt_in_batch_size: 0.06}\n"
        "  weight_decay: {linear_in_batch_size: 1e-4}\n  bn_groups: {groups_of: 32}\n",
    )
    found = points(path, "batch_size epochs optimizer.warmup_epochs optimizer.lr optimizer.weight_decay bn_groups")
    assert found == [
        (64, 3, 0.3, 0.03, 2.5e-5, 2),
        (64, 10, 1.0, 0.03, 2.5e-5, 2),
        (1024, 3, 0.3, 0.12, 4e-4, 32),
        (1024, 10, 1.0, 0.12, 4e-4, 32),
    ]
    assert "optimizer.lr" not in manifest(path).axes


def test_a_batch_smaller_than_a_group_is_one(tiny: Path) -> None:
    path = declared(tiny, "axes: {batch_size: [32, 64, 256]}\nderive: {bn_groups: {groups_of: 64}}\n")
    assert points(path, "batch_size bn_groups") == [(32, 1), (64, 1), (256, 4)]


def test_a_derived_value_is_the_one_that_would_be_declared(tiny: Path) -> None:
    path = declared(tiny, "epochs: 3\nderive: {warmup_epochs: {fraction_of_epochs: 0.1}}\n")
    derived = expanded(path).cells[0][0]
    assert derived == expanded(path, "~derive.warmup_epochs", "optimizer.warmup_epochs=0.3").cells[0][0]


def test_rules_can_be_changed_by_scales_and_on_the_command_line(tiny: Path) -> None:
    declared(tiny, "epochs: 10\nderive: {warmup_epochs: {fraction_of_epochs: 0.1}}\n")
    tiny.write_text(f"{tiny.read_text()}  half:\n    derive.warmup_epochs: {{fraction_of_epochs: 0.5}}\n")
    assert points(tiny, "optimizer.warmup_epochs", "scale=half") == [(5.0,)]
    assert points(tiny, "optimizer.warmup_epochs", "derive.warmup_epochs.fraction_of_epochs=0.2") == [(2.0,)]
    assert points(tiny, "bn_groups", "derive.bn_groups={groups_of:64}") == [(4,)]


PER_EPOCH = {64: 1293 // 64, 256: 1293 // 256}


@pytest.mark.parametrize("how", ["budget: {steps: 100}\naxes: {", "steps: 100\naxes: {", "axes: {steps: [100], "])
def test_with_steps_the_epochs_are_those_that_they_begin(tiny: Path, how: str) -> None:
    path = declared(tiny, f"{how}batch_size: [64, 256]}}\nderive: {{warmup_epochs: {{fraction_of_epochs: 0.1}}}}\n")
    found = points(path, "batch_size steps epochs optimizer.warmup_epochs")
    assert [row[:3] for row in found] == [(b, 100, math.ceil(100 / per)) for b, per in PER_EPOCH.items()]
    assert [row[3] for row in found] == pytest.approx([0.1 * 100 / per for per in PER_EPOCH.values()])
    assert manifest(path).settings["epochs"] is None
    assert "epochs" not in manifest(path).axes


def test_a_budget_of_epochs_stands_before_what_is_declared_beside_it(tiny: Path) -> None:
    path = declared(tiny, "epochs: 3\nsteps: 7\nbudget: {epochs: 5}\n")
    assert points(path, "epochs steps") == [(5, None)]
    assert points(path, "epochs steps", "budget.epochs=null", "budget.steps=40") == [(8, 40)]


def test_resources_of_a_cell_are_the_last_that_match_key_by_key(tiny: Path) -> None:
    path = declared(
        tiny,
        "cluster: {time: 30}\naxes: {batch_size: [64, 256], loss: [dcl, infonce]}\nresources:\n"
        "  - {where: batch_size>=256, gpus: 2, time: 60}\n  - {where: loss=dcl, time: 90, nodes: 2}\n",
    )
    given = resources(declare(path, []))
    found = {(cell.batch_size, cell.loss.name): given(cell) for cell, _ in expanded(path).cells}
    assert found == {
        (64, "dcl"): Resources(1, 2, 90.0),
        (64, "infonce"): Resources(1, 1, 30.0),
        (256, "dcl"): Resources(2, 2, 90.0),
        (256, "infonce"): Resources(2, 1, 60.0),
    }
    assert found[256, "dcl"].world_size == 4


def test_only_batches_that_do_not_fit_pass_in_micro_batches(tiny: Path) -> None:
    path = declared(
        tiny,
        "axes: {batch_size: [64, 256]}\nderive: {bn_groups: {groups_of: 64}}\ncluster: {micro_batch: 64}\n"
        "resources: [{where: batch_size=256, gpus: 2}]\n",
    )
    given = resources(declare(path, []))
    configs = {cell.batch_size: given(cell).run_config(RunConfig(), cell) for cell, _ in expanded(path).cells}
    assert configs == {64: RunConfig(), 256: RunConfig(world_size=2, micro_batch=64)}
    ids = {cell.cell_id for cell, _ in expanded(path).cells}
    assert ids == {cell.cell_id for cell, _ in expanded(path, "cluster.micro_batch=null").cells}


def test_cells_of_an_arm_get_the_same_resources(tiny: Path) -> None:
    path = declared(tiny, "axes: {loss: [dcl], seed: 2}\nresources: [{where: seed=0, gpus: 2}]\n")
    with pytest.raises(UserError, match="differ only in their seed get the same resources"):
        resources(declare(path, []))


@pytest.mark.parametrize(
    ("declaration", "words"),
    [
        (f"{AXES}exclude: [{{where: loss=dcl}}]", ["exclude[0]: an exclusion has 'where' and 'reason'"]),
        (f"{AXES}exclude: [{{where: loss=dcl, reason: ' '}}]", ["exclude[0]: an exclusion needs a reason"]),
        (f"{AXES}exclude: [{{where: loss=dcl, reason: 3}}]", ["exclude[0]: an exclusion needs a reason"]),
        (f"{AXES}exclude: [{{where: loss=dcl, raeson: x}}]", ["exclude[0]", "allowed: exclude: [{where"]),
        (f"{AXES}exclude: [loss=dcl]", ["exclude[0]: an exclusion has"]),
        (f"{AXES}exclude: [{{where: loss=eqco, reason: x}}]", ["no cell has loss=eqco: nothing is", "exclude=[]"]),
        (f"{AXES}exclude: [{{where: losss=dcl, reason: x}}]", ["exclude[0].where", "did you mean 'loss'"]),
        (f"{AXES}exclude: [{{where: seed>=0, reason: x}}]", ["every cell is excluded"]),
        (f"{AXES}include: [{{loss: dcl, batch_size: 64}}]", ["include[0]: seed has several values", "allowed: 0, 1"]),
        (f"{AXES}include: [{{loss: dcll, batch_size: 64, seed: 0}}]", ["include[0].loss", "did you mean 'dcl'"]),
        (f"{AXES}include: [{{loss: [dcl], batch_size: 64, seed: 0}}]", ["include[0].loss: ['dcl'] is not of type str"]),
        (f"{AXES}include: [dcl]", ["include[0]: an included cell is a mapping"]),
        (f"{AXES}include: [{{backbone: resnet18}}]", ["include[0].backbone: 'backbone' cannot be an axis"]),
        (f"{AXES}include: [{{loss: dcl, batch_size: 2048, seed: 0}}]", ["include[0].batch_size: batch size 2048"]),
        (f"{AXES}derive: {{batch_size: {{groups_of: 2}}}}", ["derive.batch_size: batch_size is derived here"]),
        ("derive: {epochs: {linear_in_batch_size: 2}}", ["derive.epochs: epochs is what rules read"]),
        ("derive: {lr: {linear_in_batchsize: 2}}", ["derive.lr", "did you mean 'linear_in_batch_size'"]),
        ("derive: {lr: {linear_in_batch_size: 2, sqrt_in_batch_size: 1}}", ["derive.lr: a derived field has one rule"]),
        ("derive: {lr: 0.1}", ["derive.lr: a derived field has one rule", "fraction_of_epochs"]),
        ("derive: {lr: {linear_in_batch_size: much}}", ["derive.lr", "'much' is no number"]),
        ("derive: {lr: {linear_in_batch_size: true}}", ["derive.lr", "True is no number"]),
        ("derive: {lr: {linear_in_batch_size: .nan}}", ["derive.lr", "nan is no number"]),
        ("derive: {lr: {linear_in_batch_size: 0.1}}", ["lr is derived, and lr_rule linear would scale it", "constant"]),
        ("optimizer: {lr_rule: constant}\nderive: {lr: {linear_in_batch_size: -1}}", ["derive.lr: -1.0 is out of"]),
        ("derive: {lr: {linear_in_batch_size: 1}, optimizer.lr: {linear_in_batch_size: 1}}", ["lr is derived twice"]),
        ("derive: {bn_groups: {groups_of: 48}}", ["derive.bn_groups: a batch of 256 cannot", "groups of 48"]),
        ("derive: {bn_groups: {groups_of: 0}}", ["a batch of 256 cannot be divided into groups of 0"]),
        ("derive: {bn_groups: {groups_of: 1}}", ["derive.bn_groups", "256 groups of at least two samples"]),
        ("derive: {bn_groups: {fraction_of_epochs: 0.5}}", ["derive.bn_groups: 0.5 is not of type int"]),
        ("derive: {warmup_epochs: {fraction_of_epochs: 1}}", ["derive.warmup_epochs: a warm-up of 1 epochs"]),
        ("derive: {warmup: {fraction_of_epochs: 1}}", ["derive.warmup", "did you mean 'warmup_steps'"]),
        ("derive: {loss: {fraction_of_epochs: 1}}", ["derive.loss: 1.0 is not of type str"]),
        ("budget: {epochs: 3, steps: 3}", ["budget.steps: a budget is of epochs or of steps, not of both"]),
        ("budget: {epochs: 3}\naxes: {epochs: [1, 2]}", ["axes.epochs: epochs vary, and budget.epochs too"]),
        ("budget: {epochs: 3}\naxes: {steps: [1, 2]}", ["axes.steps: steps vary, and budget.epochs too says how long"]),
        ("budget: {steps: 3}\naxes: {steps: [1, 2]}", ["axes.steps: steps vary, and budget.steps too says how long"]),
        ("steps: 3\naxes: {epochs: [1, 2]}", ["axes.epochs: epochs vary, and steps too says how long a cell trains"]),
        ("axes: {steps: [3], epochs: [1, 2]}", ["axes.steps: steps vary, and axes.epochs too says how long"]),
        ("axes: {epochs: [1]}\ninclude: [{steps: 5}]", ["steps vary, and"]),
        ("budget: {steps: 0}", ["budget.steps: 0 is out of range", "1 <= value"]),
        ("budget: {steps: 5}\noptimizer: {warmup_epochs: 1}", ["a warm-up of 1 epochs leaves nothing of 1"]),
        ("axes: {batch_size: [2048], steps: [5]}", ["batch size 2048 is larger than"]),
        ("resources: [{where: loss=dcl}]", ["resources[0]: an entry of resources has 'where'"]),
        ("resources: [{gpus: 2}]", ["resources[0]: an entry of resources has 'where'", "{where: batch_size>=1024"]),
        ("resources: [{where: loss=dcl, gpu: 2}]", ["resources[0].gpu", "did you mean 'gpus'"]),
        ("resources: [{where: loss=dcl, gpus: two}]", ["resources[0].gpus: 'two' is not of type int"]),
        ("resources: [{where: loss=dcl, gpus: 0}]", ["resources[0].gpus: 0 is out of range", "1 <= value"]),
        ("resources: [{where: loss=dcl, time: -1}]", ["resources[0].time: -1 is out of range", "value > 0"]),
        ("resources: [{where: loss=dlc, time: 1}]", ["resources[0].where", "did you mean 'dcl'"]),
        ("resources: [{where: loss=infonce, gpus: 3}]", ["resources: 3 ranks cannot share a batch of 256"]),
        ("failures: {retries: -1}", ["failures.retries: -1 is out of range"]),
        ("failures: {max_failures: 0}", ["failures.max_failures: 0 is out of range"]),
        ("failures: {retires: 1}", ["failures.retires", "did you mean 'retries'"]),
        ("cluster: {time: 0}", ["cluster.time: 0.0 is out of range", "value > 0"]),
        ("cluster: {ask_hours: -1}", ["cluster.ask_hours: -1.0 is out of range"]),
    ],
)  # fmt: skip
def test_what_makes_no_cell_is_refused_by_its_place(tiny: Path, declaration: str, words: list[str]) -> None:
    message = refused(declared(tiny, f"{declaration}\n"))
    for word in words:
        assert word in message, message
