"""Declarations: what is composed, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.shared.load_experiment import load
from harness.errors import UserError
from harness.sweep.declare.compose import declare


def refused(path: Path, *overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load(str(path), overrides, path.parent / "results")
    return caught.value


def edited(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_overrides_and_scales_are_composed_in_order(tiny: Path) -> None:
    declaration = declare(tiny, ["scale=big", "optimizer.lr=0.5", "axes.batch_size=[32]"])
    assert declaration.settings["backbone"]["name"] == "resnet18"
    assert declaration.settings["optimizer"]["lr"] == 0.5
    assert declaration.experiment.axes["epochs"] == [2]
    assert declaration.experiment.axes["batch_size"] == [32]


def test_a_group_chosen_on_the_command_line_beats_the_scales(tiny: Path) -> None:
    assert declare(tiny, ["scale=big", "backbone=convnet"]).settings["backbone"]["name"] == "convnet"


@pytest.mark.parametrize("overlay", ["optimizer:\n      lr: 0.01\n      weight_decay: 0.1", "optimizer.lr: 0.01"])
def test_it_beats_the_scales_values_too(tiny: Path, overlay: str) -> None:
    edited(tiny, "  demo: {}", f"  demo:\n    {overlay}\n    head.hidden: 7")
    chosen = declare(tiny, ["optimizer=lars", "head=8192-8192-d", "optimizer.momentum=0.5"]).settings
    assert {key: value for key, value in chosen["optimizer"].items() if value is not None} == {
        "schedule": "cosine", "lr_end": 0.0,
        "name": "lars", "lr": 0.3, "lr_rule": "linear", "momentum": 0.5, "weight_decay": 1e-6, "warmup_epochs": 10.0,
    }  # fmt: skip
    assert (chosen["head"]["hidden"], chosen["head"]["layers"]) == (8192, 3)
    assert declare(tiny, ["method=vicreg"]).settings["head"]["hidden"] == 8192


def test_what_a_chosen_group_sets_in_vain_is_said(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(str(tiny), ["method=vicreg", "head.hidden=8", "head.dim=8"], tiny.parent / "results")
    assert "note: method=vicreg sets loss.name to vicreg, but an axis varies it" in capsys.readouterr().out


def test_a_misspelt_group_with_a_hyphen_gets_its_neighbours(tiny: Path) -> None:
    with pytest.raises(UserError, match=r"no head 'd-dd', did you mean 'd-d-d'"):
        declare(tiny, ["head=d-dd"])


def test_a_title_may_hold_any_character(tiny: Path) -> None:
    edited(tiny, "  demo: {}", '  demo:\n    caveat: "it\'s a \\\\ {test}: [a, b], 50 %"')
    assert declare(tiny, []).experiment.caveat == "it's a \\ {test}: [a, b], 50 %"


def test_numbers_are_read_as_numbers(tiny: Path) -> None:
    edited(tiny, "temperature: [0.1]", "temperature: [1e-1, 1]")
    plan = load(str(tiny), [], tiny.parent / "results").plan
    assert sorted({entry.cell.loss.temperature for entry in plan.entries}) == [0.1, 1.0]


def test_an_axis_that_the_file_lacks_can_be_added(tiny: Path) -> None:
    plan = load(str(tiny), ["axes.lr=[0.1,0.2]", "axes.momentum=[0.5]"], tiny.parent / "results").plan
    assert {entry.cell.optimizer.lr for entry in plan.entries} == {0.1, 0.2}
    assert len(plan.entries) == 24


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("backbone.width: 8", "backbone.widht: 8", ["unknown key 'backbone.widht'", "did you mean 'width'"]),
        ("title: A", "titel: A", ["tiny.yaml:11: titel", "did you mean 'title'"]),
        ("  width: 4", "  wdith: 4", ["tiny.yaml:15: backbone.wdith", "did you mean 'width'", "allowed: name, width"]),
        ("  width: 4", "  width: four", ["tiny.yaml:15: backbone.width", "'four'", "Integer"]),
        ("  width: 4", "  width: 0", ["tiny.yaml:15: backbone.width", "1 <= value <= 1024"]),
        ("loss: [infonce, dcl]", "loss: [infonse]", ["tiny.yaml:17: axes.loss", "did you mean 'infonce'"]),
        ("loss: [infonce, dcl]", "los: [infonce]", ["tiny.yaml:17: axes.los", "did you mean 'loss'"]),
        ("temperature: [0.1]", "temperature: [0]", ["tiny.yaml:19: axes.temperature", "0 < value"]),
        ("temperature: [0.1]", "temperature: [-1.0]", ["axes.temperature", "0 < value"]),
        ("temperature: [0.1]", "temperature: [warm]", ["axes.temperature", "'warm' is not of type float"]),
        ("temperature: [0.1]", "temperature: 0.1", ["axes.temperature", "an axis is a list"]),
        ("temperature: [0.1]", "temperature: []", ["axes.temperature", "an axis is a list"]),
        ("seed: [0, 1, 2]", "seed: [0, 0]", ["axes.seed", "listed twice"]),
        ("seed: [0, 1, 2]", "seed: [true]", ["axes.seed", "not of type int"]),
        ("batch_size: [64, 256]", "batch_size: [64, 2000]", ["axes.batch_size", "1293 training images", "<= 1293"]),
        ("dataset: digits", "dataset: digit", ["tiny.yaml", "did you mean 'digits'", "cifar10"]),
        ("scale: demo", "scale: dmo", ["tiny.yaml:13: scale", "did you mean 'demo'", "demo, wide, big"]),
        ("measure: drop", "measure: drp", ["dcl-robust", "did you mean 'drop'"]),
        ("    measure: drop\n", "", ["a claim needs measure"]),
        ("    source: nowhere", "    origin: nowhere", ["claims[0]", "unknown key 'origin'"]),
        ("title: A tiny study", "title: ${oc.env:HOME}", ["tiny.yaml:11", "interpolation"]),
        ("title: A tiny study", "title: [", ["tiny.yaml", "not a YAML file"]),
        ("title: A tiny study", "title: a\ntitle: b", ["'title' is there twice", "lines 11 and 12"]),
        ("  demo: {}", "  demo: 5", ["scales are named overlays"]),
        ("batch_size: [64, 256]", "sigma: [0.3, 0.5]", ["axes.sigma", "infonce has no sigma"]),
        ("temperature: [0.1]", "backbone: [convnet]", ["axes.backbone", "cannot be an axis"]),
    ],
)
def test_mistakes_in_the_file_are_refused_with_their_line(tiny: Path, old: str, new: str, words: list[str]) -> None:
    message = str(refused(edited(tiny, old, new), *(["scale=wide"] if "widht" in new else [])))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("batchsize=3", ["command line: batchsize=3", "did you mean 'batch_size'"]),
        ("batch_size=many", ["command line: batch_size=many", "Integer"]),
        ("evaluate.knn_k=5000", ["command line: evaluate.knn_k=5000", "bank of 1293", "<= 1293"]),
        ("evaluate.knn_temperature=0", ["value > 0"]),
        ("evaluate.linear=sdg", ["did you mean 'sgd'", "lbfgs, adam, sgd"]),
        ("evaluate.linear=sgd", ["the linear probe 'sgd' needs linear_epochs"]),
        ("dataset=cifar11", ["did you mean 'cifar10'"]),
        ("backbone=resnet18", ["axes"]),
        ("scale=bigger", ["did you mean 'big'"]),
        ("optimizer.lr_rule=quadratic", ["unknown lr_rule", "constant, linear, sqrt"]),
        ("dataset.validation=0.0001", ["0 of 1437 training images would be held out", "<= 0.5"]),
        ("++scale=bigger", ["did you mean 'big'"]),
        ("optimizer.warmup_epochs=1", ["leaves nothing of 1"]),
        ("dataset.image_size=9", ["images of 8 pixels"]),
        ("nonsense", ["command line"]),
        ("+views.blurr=1", ["command line: +views.blurr=1", "unknown key 'views.blurr'", "crop_min, flip"]),
        ("axes=3", ["command line: axes=3"]),
        ("cluster.slots=0", ["1 <= value"]),
        ("cluster.device=tpu", ["auto, cpu, cuda"]),
        ("views.jitter=nan", ["finite"]),
        ("optimizer.lr=inf", ["finite"]),
        ("dataset=imagefolder", ["dataset.root", "train/<class>"]),
    ],
)
def test_mistakes_on_the_command_line_are_refused(tiny: Path, override: str, words: list[str]) -> None:
    if override == "backbone=resnet18":
        words = ["resnet18 with the cifar stem takes images of 16 to 96 pixels, not 8", "convnet"]
    message = str(refused(tiny, override))
    for word in words:
        assert word in message


def test_only_yaml_files_are_experiments(tiny: Path) -> None:
    assert "NAME.yaml" in str(refused(tiny.rename(tiny.with_suffix(".yml"))))


def test_a_missing_file_lists_its_neighbours(tiny: Path) -> None:
    assert "tiny.yaml" in str(refused(tiny.with_name("tinny.yaml")))


def test_a_file_without_the_schema_says_what_it_needs(tiny: Path) -> None:
    assert "schema" in str(refused(edited(tiny, "  - schema\n", "")))
