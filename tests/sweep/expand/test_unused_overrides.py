"""Overrides that something else in the declaration replaces: refused, with the override that has an effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.shared.load_experiment import load
from harness.errors import UserError

AXES = """axes:
  loss: [infonce, dcl]
  batch_size: [64, 256]
  temperature: [0.1]
  epochs: [1]
  seed: [0, 1, 2]
"""
GRIDS = "axes: {seed: [0]}\ngrids: {a: {loss: [dcl], batch_size: [64]}, b: {loss: [infonce], batch_size: [32]}}\n"


def with_axes(path: Path, axes: str) -> Path:
    text = path.read_text()
    claims, scales = text.index("claims:"), text.index("scales:")
    text = text[:claims] + text[scales:]
    assert AXES in text
    path.write_text(text.replace(AXES, axes).replace("    axes:\n      epochs: [2]\n", ""))
    return path


def refused(path: Path, *overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load(str(path), overrides, path.parent / "results")
    return caught.value


@pytest.mark.parametrize(
    ("axes", "override", "why", "form"),
    [
        (AXES, "epochs=5", "axes.epochs varies it", "axes.epochs=[5]"),
        (AXES, "batch_size=32", "axes.batch_size varies it", "axes.batch_size=[32]"),
        (AXES, "seed=7", "axes.seed varies it", "axes.seed=[7]"),
        (AXES, "seed=0", "axes.seed varies it", "axes.seed=[0]"),
        (AXES, "loss.name=dclw", "axes.loss varies it", "axes.loss=[dclw]"),
        (AXES, "loss={name: dclw}", "axes.loss varies it", "axes.loss=[dclw]"),
        (AXES, "++epochs=5", "axes.epochs varies it", "axes.epochs=[5]"),
        ("zip: [{batch_size: [32, 64], lr: [0.1, 0.2]}]\n", "batch_size=4", "zip[0].batch_size varies it",
         "another zip=[...]"),
        (GRIDS, "loss.name=dclw", "grids.a.loss and grids.b.loss vary it", "grids.a.loss=[dclw] grids.b.loss=[dclw]"),
        (GRIDS, "axes.batch_size=[8]", "grids.a.batch_size and grids.b.batch_size vary it",
         "grids.a.batch_size=[8] grids.b.batch_size=[8]"),
        ("derive: {lr: {linear_in_batch_size: 0.06}}\noptimizer: {lr_rule: constant}\n", "optimizer.lr=0.1",
         "derive.lr sets it", "~derive.lr optimizer.lr=0.1"),
        ("budget: {steps: 50}\n", "epochs=5", "budget.steps says how long a cell trains",
         "budget.steps=null budget.epochs=5"),
        ("budget: {epochs: 5}\n", "epochs=3", "budget.epochs says how long a cell trains", "budget.epochs=3"),
        ("budget: {steps: 50}\n", "steps=null", "budget.steps says how long a cell trains", "budget.steps=null"),
        ("steps: 50\n", "epochs=5", "steps says how long a cell trains", "steps=null epochs=5"),
        ("axes: {steps: [5, 9]}\n", "epochs=5", "axes.steps varies steps", "~axes.steps epochs=5"),
        ("axes: {steps: [5, 9]}\n", "steps=null", "axes.steps varies it", "~axes.steps"),
        ("grids: {a: {steps: [5]}, b: {steps: [9]}}\n", "steps=null", "grids.a.steps and grids.b.steps vary it",
         "~grids.a.steps ~grids.b.steps"),
        ("resources: [{where: batch_size>=1, gpus: 2}]\n", "cluster.gpus=1",
         "entries of resources set it for every cell", "'resources=[]' cluster.gpus=1, or another list of resources"),
    ],
)  # fmt: skip
def test_an_override_that_another_key_replaces_is_refused_with_the_form_that_is_right(
    tiny: Path, axes: str, override: str, why: str, form: str
) -> None:
    error = refused(with_axes(tiny, axes), override)
    assert (error.where, error.what, error.allowed) == ("command line", f"{override} has no effect, {why}", form)


@pytest.mark.parametrize(
    ("axes", "override", "cells"),
    [
        ("axes: {loss: [infonce, eqco], alpha: [16, 64]}\nwhen: {alpha: loss=eqco}\n", "loss.alpha=32", 3),
        ("grids: {a: {loss: [dcl], epochs: [1, 2]}, b: {loss: [infonce]}}\n", "epochs=5", 3),
        ("grids: {a: {loss: [dcl]}, b: {batch_size: [32]}}\naxes: {loss: [infonce]}\n", "axes.loss=[eqco]", 2),
        ("resources: [{where: batch_size>=64, time: 5}]\naxes: {batch_size: [32, 64]}\n", "cluster.time=3", 2),
        ("budget: {steps: 50}\n", "budget.steps=4", 1),
        ("derive: {bn_groups: {groups_of: 32}}\nbatch_size: 64\n", "derive.bn_groups.groups_of=64", 1),
    ],
)
def test_an_override_that_some_cell_takes_is_no_mistake(tiny: Path, axes: str, override: str, cells: int) -> None:
    assert len(load(str(with_axes(tiny, axes)), [override], tiny.parent / "results").plan.entries) == cells


@pytest.mark.parametrize(
    ("axes", "overrides"),
    [
        ("steps: 50\n", ["steps=null", "epochs=5"]),
        ("steps: 50\n", ["steps=null", "budget.epochs=5"]),
        ("budget: {epochs: 5}\n", ["steps=null"]),
        ("steps: 50\nbudget: {epochs: 5}\n", ["steps=null"]),
        ("budget: {steps: 50}\n", ["steps=null", "budget.steps=null", "epochs=5"]),
        ("budget: {steps: 50}\n", ["steps=null", "budget={steps:null,epochs:5}"]),
        ("axes: {steps: [50, 60]}\n", ["steps=null", "~axes.steps", "epochs=5"]),
        ("axes: {steps: [50, 60]}\n", ["steps=null", "~axes.steps", "axes.epochs=[5]"]),
        ("axes: {seed: [0]}\n", ["scale=by_steps", "steps=null", "epochs=5"]),
    ],
)
def test_steps_are_taken_back_where_epochs_take_their_place(tiny: Path, axes: str, overrides: list[str]) -> None:
    file = with_axes(tiny, axes)
    file.write_text(file.read_text().replace("scales:\n", "scales:\n  by_steps: {steps: 50}\n"))
    (entry,) = load(str(file), overrides, tiny.parent / "results").plan.entries
    assert (entry.cell.epochs, entry.cell.steps) == (5, None)


@pytest.mark.parametrize(
    ("axes", "form"),
    [
        ("budget: {steps: 50}\n", "budget.steps=null budget.epochs=5"),
        ("axes: {steps: [50, 60]}\n", "~axes.steps epochs=5"),
    ],
)
def test_the_form_that_takes_steps_back_keeps_the_epochs_beside_it(tiny: Path, axes: str, form: str) -> None:
    file = with_axes(tiny, axes)
    for overrides in (["steps=null", "epochs=5"], ["epochs=5", "steps=null"]):
        assert refused(file, *overrides).allowed == form
    assert load(str(file), form.split(), tiny.parent / "results").plan.entries[0].cell.epochs == 5


def test_a_length_that_an_axis_contradicts_is_found_on_the_command_line(tiny: Path) -> None:
    error = refused(tiny, "steps=3")
    assert error.where == "command line: steps=3"
    assert error.allowed == "~axes.epochs with it, or axes.epochs alone"


@pytest.mark.parametrize(
    "override", ["axes.seed=[]", "exclude=[{where: 'lrr=3', reason: x}]", "exclude=[{where: 'lr=3', reason: x}]",
                 "when.sigma='loss=dcl'", "when.lr='loss=dcl'", "include=[{sed: 0}]",
     "optimizer.name=adagrad", "method.name=byol"],
)  # fmt: skip
def test_an_axis_or_name_that_is_empty_or_unknown_is_found_on_the_command_line(tiny: Path, override: str) -> None:
    error = refused(tiny, override)
    assert error.where == f"command line: {override}"
    assert error.allowed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loss.sigma=0.3", "no cell has a loss with it (infonce, dcl)"),
        ("method.queue=7", "no cell has a method with it (simclr)"),
        ("cluster.time=3", "on this machine; it is for jobs of a cluster"),
        ("cluster.partition=gpu", "on this machine"),
        ("evaluate.linear_epochs=3", "the linear probe 'lbfgs' does not read it"),
    ],
)
def test_what_nothing_reads_is_said(tiny: Path, override: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    load(str(tiny), [override], tiny.parent / "results")
    said = capsys.readouterr().out
    assert f"note: {override} has no effect" in said
    assert words in said
