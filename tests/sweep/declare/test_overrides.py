"""Overrides of the command line: habits from shells and from Hydra are answered with the form that is right."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.sweep.declare.compose import declare
from harness.sweep.declare.overrides import grammar, read


def refused(path: Path, *overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        declare(path, overrides)
    return caught.value


NAMES = ["/x/run=3", "/x/run(1)", "/x/a#b", "/x/é猫", "~/x", "a,b", "it's", "/x/{a}", "50%^", 'a"b', "$HOME'", "a=b=c"]


@pytest.mark.parametrize("name", NAMES)
def test_a_value_with_special_characters_is_answered_with_its_form_in_quotes(
    tiny: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    error = refused(tiny, f"dataset.root={name}")
    assert error.where == f"command line: dataset.root={name}"
    (word,) = shlex.split(error.allowed.removesuffix(" if that is one"))
    assert declare(tiny, [word]).experiment.dataset.root == name.replace("~", "/home/me")


@pytest.mark.parametrize(
    ("override", "form"),
    [
        ("seed=0,1,2", "axes.seed=[0,1,2]"),
        ("seed=[1,2]", "axes.seed=[1,2]"),
        ("axes.seed=0,1", "axes.seed=[0,1]"),
        ("axes.batch_size=64,128", "axes.batch_size=[64,128]"),
        ("axes.seed=range(3)", "axes.seed=[0,1,2]"),
        ("seed=range(1,6,2)", "axes.seed=[1,3,5]"),
        ("seed=range(100000000000)", "axes.seed=[VALUE,VALUE]"),
        ("optimizer.lr=range(0.1,0.35,0.1)", "axes.lr=[0.1,0.2,0.3]"),
        ("optimizer.lr=interval(0,1)", "axes.lr=[VALUE,VALUE]"),
        ("axes.loss=choice(dcl,infonce)", "axes.loss=[dcl,infonce]"),
        ("loss.name=glob(dcl*)", "axes.loss=[VALUE,VALUE]"),
        ("seed=shuffle(1,2)", "axes.seed=[1,2]"),
        ("grids.moco.loss=dcl,dclw", "grids.moco.loss=[dcl,dclw]"),
        ("method=simclr,moco", "axes.method=[simclr,moco]"),
        ("lr=0.1,0.2", "axes.lr=[0.1,0.2]"),
        ("dataset=digits,cifar10", "one experiment a data set"),
        ("lr=0.1", "optimizer.lr=0.1"),
        ("temperature=0.5", "loss.temperature=0.5"),
        ("+queue=8", "method.queue=8"),
        ("loss=dcl", "axes.loss=[dcl]"),
        ("claims[0].margin=2", "claims.0.margin=2"),
        ("other.yaml", "one experiment file, then overrides KEY=VALUE"),
        ("scales.demo.epochs=5", "epochs=5"),
        ("axes={}", "~axes, which removes its keys"),
    ],
)
def test_a_habit_is_answered_with_the_form_that_is_right(tiny: Path, override: str, form: str) -> None:
    error = refused(tiny, override)
    assert (error.where, error.allowed) == (f"command line: {override}", form)
    assert "multirun" not in str(error)


@pytest.mark.parametrize(
    "override",
    ["hydra.run.dir=out", "hydra/launcher=basic", "hydra.verbose=true", "hydra.searchpath=[x]", "scales={demo:{}}",
     "~scales.big", "defaults=[schema]", "title=${oc.env:HOME}", "seed=", "dataset@train=digits",
     "optimizer=null", "views=[simclr]"],
)  # fmt: skip
def test_what_has_no_effect_whatever_the_file_says_is_refused_by_its_place(tiny: Path, override: str) -> None:
    error = refused(tiny, override)
    assert error.where == f"command line: {override}"
    assert error.allowed


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("epochs=5", "epochs=6"),
        ("seed=1", "++seed=1"),
        ("optimizer=sgd", "optimizer=lars"),
        ("scale=big", "scale=wide"),
        ("axes.seed=[0]", "axes={seed:[1]}"),
        ("axes={seed:[1],epochs:[2]}", "axes.seed=[0]"),
        ("axes.temperature=[0.1]", "~axes.temperature"),
        ("grids.moco.loss=[dcl]", "~grids.moco"),
    ],
)
def test_an_override_that_a_later_one_replaces_is_refused(tiny: Path, earlier: str, later: str) -> None:
    error = refused(tiny, earlier, "title=x", later)
    assert error.where == "command line"
    assert error.what == f"{earlier} has no effect, {later} replaces it"


def test_what_is_removed_may_be_set_anew_and_groups_may_be_refined() -> None:
    texts = [
        "~derive.lr", "derive.lr={linear_in_batch_size: 0.1}", "optimizer=sgd", "optimizer.lr=0.1", "axes.loss=[dcl]"
    ]  # fmt: skip
    assert [override.text for override in read(texts)] == texts


def test_a_key_of_a_claim_can_be_set_and_a_mistake_in_it_is_found_on_the_command_line(tiny: Path) -> None:
    assert declare(tiny, ["claims.0.margin=2"]).claims[0].margin == 2
    error = refused(tiny, "claims.0.mragin=2")
    assert error.where == "command line: claims.0.mragin=2"
    assert "did you mean 'margin'" in error.what


@pytest.mark.parametrize("text", ["", "it's", "a\\", "a\\'b", "é猫 {x}: [y], #"])
def test_the_grammar_of_a_text_is_read_back(text: str) -> None:
    assert read([f"title={grammar(text)}"])[0].value == text
