"""What varies: seeds by their number, axes that vary together, and axes that exist only under a condition."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.declarations import declared, expanded, manifest, points, refused

ZIPPED = """axes:
  loss: [infonce, dcl]
  seed: 2
zip:
  - {batch_size: [32, 512], lr: [0.1, 0.3]}
"""
CONDITIONED = """axes:
  alpha: [16, 64]
  loss: [infonce, eqco, dclw]
  sigma: [0.3, 0.5]
  queue: [8, 16]
  method: [simclr, moco]
  seed: [0]
when:
  alpha: loss=eqco
  sigma: loss=dclw
  queue: method=moco
"""
CHAINED = """axes:
  lr: [0.1, 0.2]
  alpha: [16, 64]
  loss: [dcl, eqco]
when:
  lr: alpha>=64
  alpha: loss=eqco
"""


def test_a_number_of_seeds_means_as_many_from_zero(tiny: Path) -> None:
    path = declared(tiny, "axes:\n  loss: [dcl]\n  seed: 3\n")
    assert points(path, "seed") == [(0,), (1,), (2,)]
    assert points(path, "seed", "axes.seed=2") == [(0,), (1,)]
    assert manifest(path).axes["seed"] == [0, 1, 2]


def test_zipped_axes_vary_together_and_cross_with_the_others(tiny: Path) -> None:
    assert points(declared(tiny, ZIPPED), "batch_size optimizer.lr loss.name seed") == [
        (batch, lr, loss, seed)
        for batch, lr in ((32, 0.1), (512, 0.3))
        for loss in ("infonce", "dcl")
        for seed in (0, 1)
    ]
    assert manifest(tiny).axes.keys() == {"batch_size", "optimizer.lr", "loss.name", "seed"}


def test_several_zips_cross_each_other(tiny: Path) -> None:
    path = declared(tiny, "zip: [{batch_size: [32, 64], lr: [0.1, 0.2]}, {seed: 2, momentum: [0.5, 0.9]}]\n")
    found = points(path, "batch_size optimizer.lr seed optimizer.momentum")
    assert found == [(b, lr, s, m) for b, lr in ((32, 0.1), (64, 0.2)) for s, m in ((0, 0.5), (1, 0.9))]


def test_a_grid_has_its_own_zip_which_replaces_common_axes(tiny: Path) -> None:
    grids = """axes: {batch_size: [64], seed: 1}
grids:
  paired: {zip: [{batch_size: [32, 128], lr: [0.1, 0.2]}], loss: [dcl]}
  plain: {loss: [infonce]}
"""
    found = points(declared(tiny, grids), "loss.name batch_size optimizer.lr")
    assert found == [("dcl", 32, 0.1), ("dcl", 128, 0.2), ("infonce", 64, 0.06)]


def test_a_scale_and_the_command_line_can_zip(tiny: Path) -> None:
    declared(tiny, ZIPPED)
    tiny.write_text(f"{tiny.read_text()}  small:\n    zip: [{{batch_size: [16, 8], lr: [1e-2, 1]}}]\n")
    assert set(points(tiny, "batch_size optimizer.lr", "scale=small")) == {(16, 0.01), (8, 1.0)}
    assert set(points(tiny, "batch_size optimizer.lr", "zip=[{batch_size:[4,2],lr:[1,2]}]")) == {(4, 1.0), (2, 2.0)}
    assert set(points(tiny, "batch_size optimizer.lr", "zip=[]")) == {(256, 0.06)}


def test_an_axis_exists_only_where_its_condition_holds(tiny: Path) -> None:
    found = points(declared(tiny, CONDITIONED), "loss.name loss.alpha loss.sigma method.name method.queue")
    wanted = [
        (loss, alpha, sigma, method, queue)
        for loss, alphas in (("infonce", [None]), ("eqco", [16, 64]), ("dclw", [None]))
        for alpha in alphas
        for sigma in ([0.3, 0.5] if loss == "dclw" else [None])
        for method, queues in (("simclr", [None]), ("moco", [8, 16]))
        for queue in queues
    ]  # fmt: skip
    assert sorted(found, key=str) == sorted(wanted, key=str)


def test_elsewhere_the_field_keeps_what_is_declared(tiny: Path) -> None:
    path = declared(tiny, "optimizer: {lr: 0.5}\naxes:\n  loss: [dcl, eqco]\n  lr: [0.1]\nwhen:\n  lr: loss=eqco\n")
    assert points(path, "loss.name optimizer.lr") == [("dcl", 0.5), ("eqco", 0.1)]


def test_conditions_may_build_on_each_other_whatever_their_order(tiny: Path) -> None:
    found = points(declared(tiny, CHAINED), "loss.name loss.alpha optimizer.lr")
    assert sorted(found, key=str) == [("dcl", None, 0.06), ("eqco", 16, 0.06), ("eqco", 64, 0.1), ("eqco", 64, 0.2)]


def test_a_condition_may_read_a_field_that_does_not_vary(tiny: Path) -> None:
    path = declared(tiny, "axes:\n  queue: [8, 16]\n  loss: [dcl]\nwhen: {queue: method=moco}\n")
    assert points(path, "method.queue") == [(None,)]
    assert points(path, "method.queue", "method=moco") == [(8,), (16,)]


def test_a_condition_can_be_changed_on_the_command_line_and_by_a_scale(tiny: Path) -> None:
    declared(tiny, "axes:\n  lr: [0.1, 0.2]\n  loss: [dcl, infonce]\nwhen: {lr: loss=dcl}\n")
    tiny.write_text(f"{tiny.read_text()}  other:\n    when: {{lr: loss=infonce}}\n")
    assert ("infonce", 0.2) in points(tiny, "loss.name optimizer.lr", "scale=other")
    assert ("infonce", 0.2) in points(tiny, "loss.name optimizer.lr", "when.lr='loss=infonce'")
    assert ("infonce", 0.2) in points(tiny, "loss.name optimizer.lr", "~when.lr")


def test_many_conditional_points_are_counted_as_they_are(tiny: Path) -> None:
    axes = ", ".join(str(index / 1000) for index in range(1, 150))
    path = declared(
        tiny,
        f"axes:\n  loss: [dcl, dclw, eqco]\n  sigma: [{axes}]\n  lr: [{axes}]\n  momentum: [{axes}]\n"
        "when: {sigma: loss=dclw, lr: loss=dclw sigma<0.002, momentum: loss=eqco}\n",
    )  # 3 * 149 ** 3 points without the conditions
    assert len(expanded(path).cells) == 1 + (149 + 148) + 149


@pytest.mark.parametrize(
    ("declaration", "words"),
    [
        ("zip: [{batch_size: [32, 64], lr: [0.1]}]", ["zip[0].lr", "batch_size has 2 values and lr 1", "one length"]),
        ("zip: [{batch_size: [32, 64]}]", ["zip[0]: a group of a zip has two axes or more"]),
        ("zip: {batch_size: [32, 64], lr: [0.1, 1]}", ["zip: a list belongs here"]),
        ("zip: [5]", ["zip[0]: a group of a zip"]),
        ("zip: [{batch_size: [32, 32], lr: [0.1, 0.1]}]", ["a row of a zip is listed twice"]),
        ("zip: [{batch_size: [32, 64], lr: 0.1}]", ["zip[0].lr", "an axis is a list"]),
        ("zip: [{batch_size: [32, 64], los: [dcl, dcl]}]", ["zip[0].los", "did you mean 'loss'"]),
        ("zip: [{lr: [1, 2], optimizer.lr: [1, 2]}]", ["zip[0].optimizer.lr: lr stands twice"]),
        ("zip: [{lr: [1, 2], seed: [0, 1]}, {seed: [3, 4], momentum: [0, 0.1]}]", ["seed varies twice", "zip[0].seed"]),
        ("axes: {lr: [0.1]}\nzip: [{batch_size: [32, 64], lr: [0.1, 1]}]", ["lr varies twice, here and as zip[0].lr"]),
        ("axes: {lr: [0.1], optimizer.lr: [0.2]}", ["lr varies twice, here and as axes.lr"]),
        ("grids: {a: {zip: [{batch_size: [32, 64], lr: [1]}]}}", ["grids.a.zip[0].lr", "2 values and lr 1"]),
        ("grids: {a: {zip: 3}}", ["grids.a.zip: zip is a list"]),
        ("grids: {a: {lr: [1]}}\nzip: [{batch_size: [32, 64], lr: [1, 2]}]", ["grids.a.lr: lr varies twice", "zip[0]"]),
        ("axes: {seed: 0}", ["axes.seed: 0 seeds are out of range", "1 <= value <="]),
        ("axes: {seed: -3}", ["axes.seed: -3 seeds are out of range"]),
        ("axes: {seed: 99999999999}", ["out of range"]),
        ("axes: {seed: true}", ["an axis is a list of values", "or how many"]),
        ("axes: {batch_size: 3}", ["an axis is a list of values"]),
        ("axes: {alpha: [1]}\nwhen: {alpha: alpha=1}", ["when.alpha", "it depends on itself"]),
        ("axes: {alpha: [1], sigma: [1]}\nwhen: {alpha: sigma=1, sigma: alpha=1}",
         ["the conditions of alpha, sigma depend on each other"]),
        ("axes: {alpha: [1]}\nwhen: {alpha: loss=eqqo}", ["when.alpha", "unknown loss 'eqqo', did you mean 'eqco'"]),
        ("axes: {alpha: [1]}\nwhen: {alpha: los=eqco}", ["when.alpha", "unknown field 'los', did you mean 'loss'"]),
        ("axes: {alpha: [1]}\nwhen: {alpha: eqco}", ["'eqco' is not a condition", "batch_size<=64"]),
        ("axes: {alpha: [1]}\nwhen: {alpha: true}", ["True is no filter"]),
        ("axes: {alpha: [1]}\nwhen: {alpha: loss<eqco}", ["'loss<eqco' compares with something that is no number"]),
        ("axes: {alpha: [1]}\nwhen: {alpha: loss<3}", ["loss has no order"]),
        ("axes: {alpha: [1]}\nwhen: {alpha: batch_size=many}", ["'many' is not of type int"]),
        ("axes: {alpha: [1]}\nwhen: {alpha: symmetric=1}", ["'1' is not of type bool", "true, false"]),
        ("axes: {alpha: [1]}\nwhen: {sigma: loss=eqco}", ["when.sigma", "'sigma' is no axis", "allowed: alpha"]),
        ("axes: {alpha: [1]}\nwhen: {sgma: loss=eqco}", ["when.sgma", "did you mean 'sigma'"]),
        ("zip: [{lr: [1, 2], alpha: [1, 2]}]\nwhen: {alpha: loss=eqco}", ["alpha varies together with others"]),
        ("axes: {alpha: [1]}\nwhen: {alpha: lr>1}\nderive: {lr: {linear_in_batch_size: 1}}", ["lr is derived, which"]),
        (f"axes: {{seed: 1001, lr: {list(range(1, 1001))}}}", ["1,001,000 points", "at most 1,000,000"]),
    ],
)  # fmt: skip
def test_what_cannot_vary_so_is_refused_by_its_place(tiny: Path, declaration: str, words: list[str]) -> None:
    message = refused(declared(tiny, f"{declaration}\n"))
    for word in words:
        assert word in message, message
