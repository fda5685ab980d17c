"""Losses of users' own: described without being run, refused with their line, and part of a cell's identity."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.catalog.losses import LOSSES, TEMPERATURE
from harness.cell import Loss
from harness.cli.shared.load_experiment import load
from harness.errors import UserError
from harness.plugins import losses_in, register
from harness.ssl.losses import bind, function
from harness.study.frame import tidy

OWN = '''
import torch


def pull(z1, z2, *, temperature=0.2, margin=1):
    """The mean of relu(|z1 - z2|^2 - margin) / temperature.

    A second line.
    """
    return torch.relu((z1 - z2).square().sum(1) - margin).mean() / temperature


def drag(z1, z2, *, shift=-0.5):
    return ((z1 - z2).square().sum(1) + shift).mean()


drag.unit_norm = False
drag.symmetric = drag.stops_gradient = True


def of_three(z1, z2, weights):
    return 0.0


def _helper(a, b):
    return a


class Something:
    def method(self, other):
        return other
'''
WriteOwn = Callable[..., Path]


@pytest.fixture
def own(tmp_path: Path) -> WriteOwn:
    """``own(text, name)``: the path of a file of losses."""

    def write(text: str = OWN, name: str = "own.py") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def forget(*names: str) -> None:
    for name in names:
        del LOSSES[name]


SIGNATURES = {
    "sup_con": ("def sup_con(z1, z2, labels=None, temperature=0.07): ...",
                "sup_con also takes labels, temperature: a loss takes the two views' embeddings, and its parameters by "
                "name, after a *; a loss gets no labels: training is self-supervised"),
    "positional": ("def positional(z1, z2, temperature=0.1): ...", "positional also takes temperature"),
    "single": ("def single(features): ...", "single takes 1 arguments by position"),
    "starred": ("def starred(z1, z2, *more, **options): ...", "starred also takes *more, **options"),
    "flagged": ("def flagged(z1, z2, *, detach=True): ...", "the parameter 'detach' of flagged has no number"),
    "Module": ("class Module: ...", "Module is a class"),
    "bound": ("bound = print", "bound is an assigned value"),
    "pi": ("from math import pi", "pi is imported"),
    "waiting": ("async def waiting(z1, z2): ...", "waiting is an asynchronous function"),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNATURES)
def test_what_is_no_loss_beside_one_says_why_when_it_is_asked_for(own: WriteOwn, tiny: Path, name: str) -> None:
    content, why = SIGNATURES[name]
    file = own(f"{content}\n\n\ndef mine(z1, z2): ...\n")
    assert list(losses_in(file)) == ["mine"], "the others disturb nobody"
    with pytest.raises(UserError) as refused:
        load(str(tiny), [f"axes.loss=[mine,{name}]"], tiny.parent / "results", plugins=[file])
    assert why in str(refused.value)
    assert "own.py" in refused.value.where
    assert "def my_loss(z1, z2, *, temperature=0.1)" in refused.value.allowed


def test_no_package_is_run_to_find_its_loss(
    installed: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = installed("tug = strangers.deeper.losses:pull").parent
    (site / "strangers" / "deeper").mkdir(parents=True)
    (site / "strangers" / "__init__.py").write_text("raise SystemExit('I was run')")
    (site / "strangers" / "deeper" / "__init__.py").write_text("")
    (site / "strangers" / "deeper" / "losses.py").write_text(f"from .parts import FACTOR\n{OWN}")
    (site / "strangers" / "deeper" / "parts.py").write_text("FACTOR = 1")
    register([])
    first = LOSSES.pop("tug").source
    (site / "strangers" / "deeper" / "parts.py").write_text("FACTOR = 2")
    register([])
    assert len(LOSSES["tug"].source) == len(first) == 24, "what it imports from its package is part of its identity"
    assert LOSSES["tug"].source != first


def test_a_files_losses_are_its_public_functions_of_two_views(own: WriteOwn) -> None:
    assert list(losses_in(own())) == ["pull", "drag"]


def test_a_file_that_raises_when_it_is_run_is_described_all_the_same(own: WriteOwn) -> None:
    file = own(f"raise RuntimeError('not now')\n{OWN}")
    assert list(losses_in(file)) == ["pull", "drag"]
    register([file])
    with pytest.raises(UserError, match="cannot be imported: RuntimeError: not now"):
        function("pull")


def test_describing_a_file_imports_no_torch(own: WriteOwn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # whoever imports it now gets an ImportError
    register([own()])
    assert {"pull", "drag"} <= LOSSES.keys()


def test_keyword_parameters_with_numbers_are_the_losss_parameters(own: WriteOwn) -> None:
    found = losses_in(own())
    assert {name: known.default for name, known in found["pull"].parameters.items()} == {
        "temperature": 0.2,
        "margin": 1.0,
    }
    assert found["drag"].parameters["shift"].default == -0.5, "a negative number is one too"
    assert found["pull"].parameters["temperature"].low == TEMPERATURE.low  # type: ignore[union-attr]
    assert -1e9 in found["pull"].parameters["margin"]


def test_a_loss_says_where_it_comes_from(own: WriteOwn) -> None:
    file = own()
    entry = losses_in(file)["pull"]
    assert (entry.label, entry.function, entry.file) == ("pull", "pull", str(file.resolve()))
    assert entry.equation == "The mean of relu(|z1 - z2|^2 - margin) / temperature."


def test_properties_are_assigned_to_the_function_and_have_defaults(own: WriteOwn) -> None:
    found = losses_in(own())
    assert [(e.unit_norm, e.symmetric, e.stops_gradient) for e in found.values()] == [
        (True, True, False),
        (False, True, True),
    ]
    lopsided = losses_in(own("def mine(z1, z2): ...\nmine.symmetric = False\n"))["mine"]
    assert not lopsided.symmetric


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["own.py: it defines no loss", "def my_loss(z1, z2"]),
        ("def _mine(z1, z2): ...", ["it defines no loss"]),
        ("def mine(z1, z2, temperature=0.1): ...", ["it defines no loss"]),
        ("import torch\n\ndef mine(z1, z2:\n    return 0\n", ["own.py:3: not a file of losses", "'('"]),
        ("def mine(z1, z2):\n    a = 1\n     b = 2\n", ["own.py:3: not a file of losses", "unexpected indent"]),
        ("a = '\0'", ["own.py: not a file of losses", "null bytes"]),
        ("\n\ndef mine(z1, z2, *, margin): ...", ["own.py:3: the parameter 'margin' of mine has no number"]),
        ("def mine(z1, z2, *,\n   margin=0.1,\n   kind='l2'): ...", ["own.py:3", "'kind' of mine has no number"]),
        ("def mine(z1, z2, *, detach=True): ...", ["own.py:1", "'detach' of mine has no number"]),
        ("def mine(z1, z2, *, margin=1 / 3): ...", ["own.py:1", "'margin' of mine has no number"]),
        ("def mine(z1, z2, *, name=1.0): ...", ["own.py:1: the parameter 'name' of mine has a name that harness uses"]),
        ("def mine(z1, z2, *, unit_norm=1.0): ...", ["'unit_norm' of mine has a name that harness uses"]),
    ],
)
def test_what_is_no_file_of_losses_is_refused_with_its_line(own: WriteOwn, text: str, words: list[str]) -> None:
    file = own(text)
    with pytest.raises(UserError) as caught:
        losses_in(file)
    for word in words:
        assert word in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for nothing in (tmp_path / "nowhere.py", tmp_path):
        with pytest.raises(UserError, match="not a file of losses") as caught:
            register([nothing])
        assert caught.value.where == str(nothing)


def test_a_name_that_is_taken_is_refused_with_its_owner(own: WriteOwn) -> None:
    with pytest.raises(UserError, match="the name 'dcl' is taken by harness itself") as caught:
        register([own("def dcl(z1, z2): ...")])
    assert caught.value.where.endswith("own.py")
    with pytest.raises(UserError, match="the name 'infonce' is taken by harness itself"):
        register([own("def infonce(z1, z2, temperature=0.1): ...\ndef mine(z1, z2): ...")])
    first, second = own("def mine(z1, z2): ...", "first.py"), own("def mine(z1, z2): return 0", "second.py")
    with pytest.raises(UserError) as caught:
        register([first, second])
    assert f"the name 'mine' is taken by {first}" in str(caught.value)
    assert caught.value.where == str(second)


def test_the_same_file_twice_is_one(own: WriteOwn, monkeypatch: pytest.MonkeyPatch) -> None:
    file = own()
    register([file, file])
    entry = LOSSES["pull"]
    monkeypatch.chdir(file.parent)
    register(["own.py"])
    assert LOSSES["pull"].file == entry.file
    assert {"pull", "drag"} <= LOSSES.keys()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """``installed(points)``: a package ``own_losses`` with these entry points of the group ``harness.losses``."""

    def install(points: str) -> Path:
        site = tmp_path / "site"
        about = site / "own_losses-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-losses\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[harness.losses]\n{points}\n")
        (site / "own_losses.py").write_text(OWN)
        monkeypatch.syspath_prepend(site)
        return site / "own_losses.py"

    return install


def test_an_installed_package_brings_its_loss_by_an_entry_point(installed: Callable[[str], Path]) -> None:
    file = installed("tug = own_losses:pull")
    register([])
    assert (LOSSES["tug"].file, LOSSES["tug"].function) == (str(file), "pull")
    assert "pull" not in LOSSES, "a package's other losses are its own business"
    assert "own_losses" not in sys.modules
    z = torch.eye(4)
    assert float(bind(Loss("tug", 0.5, own={"margin": 0.0}, source=LOSSES["tug"].source))(z, z.roll(1, 0))) == 4.0


@pytest.mark.parametrize("value", ["own_losses:of_three", "own_losses:nothing", "nowhere:pull", "nowhere.deeper:pull"])
def test_an_entry_point_that_is_no_loss_stops_nobody_else(installed: Callable[[str], Path], value: str) -> None:
    installed(f"tug = {value}")
    register([])
    assert "tug" not in LOSSES


def test_a_whole_number_stays_one(own: WriteOwn) -> None:
    file = own("def top(z1, z2, *, k=3):\n    return -(z1 @ z2.T).topk(k, dim=1).values.mean()\n")
    register([file])
    z = torch.eye(4)
    loss = Loss("top", own={"k": 2.0}, source=LOSSES["top"].source)
    assert float(bind(loss)(z, z)) == -0.5


def test_a_property_that_no_loss_has_is_refused(own: WriteOwn) -> None:
    with pytest.raises(UserError, match="did you mean 'unit_norm'"):
        losses_in(own("def mine(z1, z2): ...\n\nmine.unitnorm = False\n"))


def test_the_content_of_its_file_is_part_of_a_cells_identity_and_its_place_is_not(own: WriteOwn, tiny: Path) -> None:
    def cell_id(file: Path) -> str:
        overrides = ["axes.loss=[pull]", "axes.batch_size=[64]", "axes.seed=[0]"]
        (entry,) = load(str(tiny), overrides, tiny.parent / "results", plugins=[file]).plan.entries
        forget("pull", "drag")
        return entry.cell.cell_id

    first = cell_id(own())
    assert cell_id(own(name="moved.py")) == first
    assert cell_id(own(OWN.replace("relu", "abs"))) != first


def test_a_cell_is_submitted_with_the_file_of_its_own_loss_alone(own: WriteOwn, tiny: Path) -> None:
    """Whatever happens to another file while the sweep runs is none of its business."""
    files = [own("def first(z1, z2): ...", "first.py"), own("def second(z1, z2): ...", "second.py")]
    overrides = ["axes.loss=[first,second,dcl]", "axes.batch_size=[64]", "axes.seed=[0]"]
    declared = load(str(tiny), overrides, tiny.parent / "results", plugins=files)
    tasks = [declared.task(entry, declared.submission()) for entry in declared.plan.entries]
    assert [task.submission.run.plugins for task in tasks] == [(str(files[0]),), (str(files[1]),), ()]


def test_own_parameters_are_part_of_a_cells_identity(own: WriteOwn, tiny: Path) -> None:
    overrides = ["axes.loss=[pull]", "axes.own.margin=[0.5,1]", "axes.batch_size=[64]", "axes.seed=[0]"]
    entries = load(str(tiny), overrides, tiny.parent / "results", plugins=[own()]).plan.entries
    assert [entry.cell.loss.own for entry in entries] == [{"margin": 0.5}, {"margin": 1.0}]
    assert len({entry.cell.cell_id for entry in entries}) == 2


@pytest.mark.parametrize(
    "override", ["loss.own.margin=0.5", "+loss.own.margin=0.5", "scale=own", "axes.own.margin=[0.5]"]
)
def test_an_own_parameter_is_declared_like_any_other(own: WriteOwn, tiny: Path, override: str) -> None:
    tiny.write_text(f"{tiny.read_text()}  own:\n    loss.own.margin: 0.5\n")
    overrides = ["axes.loss=[pull,dcl]", "axes.batch_size=[64]", "axes.seed=[0]", override]
    first, second = load(str(tiny), overrides, tiny.parent / "results", plugins=[own()]).plan.entries
    assert (first.cell.loss.own, second.cell.loss.own) == ({"margin": 0.5}, None)


@pytest.mark.parametrize("override", ["loss.own.margn=0.5", "axes.own.margn=[0.5]"])
def test_a_parameter_that_no_own_loss_has_is_refused(own: WriteOwn, tiny: Path, override: str) -> None:
    with pytest.raises(UserError) as caught:
        load(str(tiny), ["axes.loss=[pull]", override], tiny.parent / "results", plugins=[own()])
    assert f"command line: {override}: no loss has a parameter 'margn', did you mean 'margin'?" in str(caught.value)


def test_an_own_parameter_may_begin_like_a_field(own: WriteOwn, tiny: Path) -> None:
    file = own("def mine(z1, z2, *, lossy=0.5, ownership=1.0): ...")
    overrides = ["axes.loss=[mine]", "axes.own.lossy=[0.1,0.2]", "axes.own.ownership=[2]", "axes.seed=[0]"]
    manifest = load(str(tiny), overrides, tiny.parent / "results", plugins=[file]).manifest
    assert manifest.axes["loss.own.lossy"] == [0.1, 0.2]
    assert manifest.axes["loss.own.ownership"] == [2.0]


def test_an_own_parameter_can_be_derived(own: WriteOwn, tiny: Path) -> None:
    overrides = ["axes.loss=[pull]", "axes.batch_size=[64]", "axes.seed=[0]", "derive.margin={linear_in_batch_size:1}"]
    declared = load(str(tiny), overrides, tiny.parent / "results", plugins=[own()])
    assert [entry.cell.loss.own for entry in declared.plan.entries] == [{"margin": 0.25}]
    assert declared.manifest.common.loss.own == {"margin": 0.25}


def test_a_claim_can_name_an_own_parameter_that_is_on_no_axis(own: WriteOwn, tiny: Path) -> None:
    overrides = ["axes.loss=[pull]", "axes.batch_size=[64]", "axes.seed=[0]", "loss.own.margin=0.5"]
    results = tiny.parent / "results"
    table = tidy(load(str(tiny), overrides, results, plugins=[own()]).manifest, results)
    assert [len(table.where(text).frame) for text in ("margin=0.5", "margin=1")] == [1, 0]


def test_a_cell_whose_file_has_changed_since_is_refused(own: WriteOwn) -> None:
    register([own()])
    declared = Loss("pull", own={"margin": 1.0}, source=LOSSES["pull"].source)
    bind(declared)
    forget("pull", "drag")
    register([own(f"{OWN}\n# a word more\n")])
    with pytest.raises(UserError) as caught:
        bind(declared)
    assert f"declared with source {declared.source} of the loss 'pull', which is {LOSSES['pull'].source}" in str(
        caught.value
    )
    forget("pull", "drag")
    with pytest.raises(UserError, match="'pull', which was not given"):
        bind(declared)
    with pytest.raises(UserError, match="'dcl', which is built in"):
        bind(Loss("dcl", source=declared.source))


def test_an_own_loss_gets_its_parameters_and_what_embeddings_it_asks_for(own: WriteOwn) -> None:
    register([own()])
    source = LOSSES["pull"].source
    z1 = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    z2 = z1.roll(1, 0)
    expected = [max(0.0, sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) - 0.3) / 0.5 for x, y in
                zip(z1.tolist(), z2.tolist(), strict=True)]  # fmt: skip
    found = bind(Loss("pull", 0.5, own={"margin": 0.3}, source=source))(z1, z2)
    assert math.isclose(float(found), sum(expected) / 6, rel_tol=1e-5)
    assert bind(Loss("pull", 0.5, source=source))(z1.bfloat16(), z2.bfloat16()).dtype == torch.float32
    with pytest.raises(UserError, match=r"row \d has norm 2"):
        bind(Loss("pull", 0.5, source=source))(2 * z1, z2)
    with pytest.raises(UserError, match=r"temperature: pull: -1.0 is out of range"):
        bind(Loss("pull", -1.0, source=source))(z1, z2)
    longer = bind(Loss("drag", None, source=LOSSES["drag"].source))(2 * z1, z2)
    assert float(longer) == pytest.approx(float((2 * z1 - z2).square().sum(1).mean()) - 0.5)
