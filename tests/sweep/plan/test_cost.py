"""A cell that dies while it is measured is named, and what was measured before it is remembered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import json_process
from harness.catalog.losses import LOSSES
from harness.cell import Backbone, Cell, Dataset, Loss
from harness.datasets import DatasetFiles, find
from harness.errors import UserError
from harness.files import cache_folder
from harness.plugins import register
from harness.sweep.expand.resources import Resources
from harness.sweep.plan import cost
from harness.sweep.plan.cost import Costs, measure, shape
from tests.support.ways_of_damage import WAYS

pytestmark = pytest.mark.own_costs

FILES = DatasetFiles("", "", 1437, 360, 1, 1437)

#: Files of users' own losses, and what becomes of the process that measures them.
OWN = {
    "killed": "import os; os.kill(os.getpid(), 9)",
    "crashed": "import os; os.abort()",
    "mistaken": "float(z1.detach().sum()); raise ValueError('no number')",
    "talkative": "print('[1, 2]'); import os; os.system('uname -s'); os.write(1, b'Linux')",
    "slow": "import time; time.sleep(0.3)",
    "of_a_dictionary": "return {'loss': (z1 - z2).square().mean()}",
    "gone": "import os; os._exit(0)",
    "counting": "global COUNT; COUNT = globals().get('COUNT', 0) + 1; z1 = z1 * COUNT",
    "settled": "torch.set_default_dtype(torch.float64); torch.set_num_threads(1); torch.nn.functional.relu = None",
}
LOSS = '''
import torch

def {name}(z1, z2, *, temperature=0.5):
    """Mine."""
    {does}
    return (z1 - z2).square().mean()
'''


def own_loss(tmp_path: Path, name: str) -> tuple[Cell, list[str]]:
    file = tmp_path / f"{name}.py"
    file.write_text(LOSS.format(name=name, does=OWN[name]))
    register([file])
    return small(loss=Loss(name, 0.5, source=LOSSES[name].source)), [str(file)]


def small(**fields: Any) -> Cell:
    return Cell(**{"backbone": Backbone("convnet", 4), "dataset": Dataset("digits", 8), "batch_size": 64, **fields})


def measured(cells: list[Cell], own: list[str]) -> Costs:
    return measure([(cell, Resources(1, 1, None)) for cell in cells], FILES, 1, "cpu", own)


def remembered() -> int:
    return len(list((cache_folder() / "costs").glob("*.json")))


@pytest.mark.e2e
@pytest.mark.parametrize(("name", "signal"), [("killed", "SIGKILL"), ("crashed", "SIGABRT")])
def test_a_cell_that_dies_is_named_and_how(tmp_path: Path, name: str, signal: str) -> None:
    dying, own = own_loss(tmp_path, name)
    first = small(batch_size=32, loss=Loss("infonce", 0.5))
    with pytest.raises(UserError) as refused:
        measured([first, dying], own)
    assert f"loss={name} batch_size=64 cannot be measured on cpu" in str(refused.value)
    assert signal in str(refused.value)
    assert remembered() == 2, "all of the first, which is measured in another process"


@pytest.mark.e2e
def test_a_streamed_cell_is_measured_with_its_files(tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "val"):
        (tmp_path / split / "one").mkdir(parents=True)
        for number in range(24):
            Image.new("RGB", (1600, 1200), (number, 0, 0)).save(tmp_path / split / "one" / f"{number}.jpg")
    files = find("imagefolder", str(tmp_path))
    cells = [small(dataset=Dataset("imagefolder", 16, stream=stream)) for stream in (False, True)]
    costs = measure([(cell, Resources(1, 1, None)) for cell in cells], files, 1, "cpu")
    held, streamed = (costs.steps[shape(cell, "cpu")].sample for cell in cells)
    assert streamed > 3 * held, "decoding comes on top, and takes far longer than a step of so small a network"
    assert len(costs.memory) == 2


@pytest.mark.e2e
def test_what_other_sources_took_is_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured([small()], [])
    run, runs = cost._run, []
    monkeypatch.setattr(cost, "_run", lambda *asked: (runs.append(1), run(*asked))[1])
    assert measured([small()], []) == found
    assert runs == [], "it is remembered"
    monkeypatch.setattr(cost, "source_hash", lambda: "0" * 12)
    measured([small()], [])
    assert runs == [1]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_remembered_and_damaged_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, way: Callable[[Path], None]
) -> None:
    step = {"sample": 1.0, "feature": 2.0, "start": 3.0, "encoder_bytes": 4, "checkpoint_bytes": 5}
    runs = []

    def run(request: Any, *_: object) -> Any:
        runs.append(1)
        yield from ((item["key"], step) for item in request["steps"])
        yield from ((item["key"], {"bytes": 6}) for item in request["memory"])

    monkeypatch.setattr(cost, "_run", run)
    wanted = measured([small()], [])
    assert measured([small()], []) == wanted
    assert runs == [1]
    for path in sorted((cache_folder() / "costs").glob("*")):
        way(path)
        assert measured([small()], []) == wanted
    assert runs == [1, 1, 1]


@pytest.mark.e2e
def test_a_cell_that_is_alone_has_a_name(tmp_path: Path) -> None:
    dying, own = own_loss(tmp_path, "killed")
    with pytest.raises(UserError, match="loss=killed backbone=convnet batch_size=64 cannot be measured on cpu"):
        measured([dying, dataclasses.replace(dying, seed=1)], own)


@pytest.mark.e2e
def test_a_mistake_is_said_with_the_cell_that_makes_it(tmp_path: Path) -> None:
    mistaken, own = own_loss(tmp_path, "mistaken")
    with pytest.raises(
        UserError,
        match=r"loss=mistaken .* cannot be measured on cpu: ValueError: no number",
    ):
        measured([mistaken], own)
    assert remembered() == 1, "that its memory cannot be known"


@pytest.mark.e2e
def test_what_a_loss_prints_is_no_answer(tmp_path: Path) -> None:
    talkative, own = own_loss(tmp_path, "talkative")
    assert min(measured([talkative], own).memory.values()) > 0


@pytest.mark.e2e
def test_the_time_of_an_own_loss_is_its_own_and_that_of_no_other(tmp_path: Path) -> None:
    """Its step, in a process of its own: neither is it planned with another loss's step, nor another one with its."""
    slow, own = own_loss(tmp_path, "slow")
    tuned = dataclasses.replace(slow, loss=dataclasses.replace(slow.loss, own={"iterations": 100.0}))
    cells = [slow, small(loss=Loss("infonce", 0.5)), small(loss=Loss("dcl", 0.5))]
    steps = measured(cells, own).steps
    assert len(steps) == 2
    assert steps[shape(slow, "cpu")].sample > 0.3 / 64 > steps[shape(cells[1], "cpu")].sample
    assert shape(tuned, "cpu") != shape(slow, "cpu")


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("of_a_dictionary", "of_a_dictionary returns a dict"),
        ("counting", "it changes COUNT from step to step, and no checkpoint has that.* in the dictionary state"),
        ("gone", "the process ended by itself"),
    ],
)
def test_a_loss_that_cannot_be_measured_is_refused_with_the_command_that_checks_it(
    tmp_path: Path, name: str, words: str
) -> None:
    wrong, own = own_loss(tmp_path, name)
    with pytest.raises(UserError, match=f"loss={name} .* cannot be measured on cpu: .*{words}") as refused:
        measured([wrong], own)
    assert refused.value.next_command == f"harness check-loss {own[0]}:{name}"


@pytest.mark.e2e
def test_what_a_loss_sets_changes_no_other_measurement(tmp_path: Path) -> None:
    settled, own = own_loss(tmp_path, "settled")
    Path(own[0]).write_text(f"import torch\n{OWN['settled']}\n{LOSS.format(name='settled', does='')}")
    LOSSES.pop("settled")
    register(own)
    settled = dataclasses.replace(settled, loss=Loss("settled", 0.5, source=LOSSES["settled"].source))
    costs = measured([settled, small(loss=Loss("infonce", 0.5))], own)
    assert len(costs.steps) == 2
    assert min(costs.memory.values()) > 0


def test_where_no_cell_has_begun_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_process.sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="nothing can be measured on cpu: the process ended by itself with exit code 1"):
        measured([small()], [])
