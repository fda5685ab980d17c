"""What is refused before an added evaluation starts, and a worker that does not get far."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cell import Backbone, Dataset
from harness.errors import UserError
from harness.evaluation import Evaluation
from harness.store.record import Record
from harness.sweep.run.reevaluate import OtherDataset, run, tasks
from harness.sweep.run.slots import Slots

MakeRecord = Callable[..., Record]


def test_more_neighbours_than_images_are_refused(make_record: MakeRecord) -> None:
    with pytest.raises(UserError, match=r"--preset mine: evaluate.knn_k: 5000 neighbours are more than .* 1293"):
        tasks([make_record()], Evaluation(knn_k=5000), None, None, "mine")
    (task,) = tasks([make_record()], Evaluation(knn_k=1293, curve_bank=10), None, None, "mine")
    assert task.dataset == make_record().cell().dataset


def test_images_that_the_encoder_cannot_take_are_refused(make_record: MakeRecord) -> None:
    photographs = make_record(dataset=Dataset("cifar10", 32), backbone=Backbone("resnet18", 16))
    digits = OtherDataset.find("digits", None)
    with pytest.raises(UserError, match=r"--dataset digits: .* takes images of 3 channels, digits has 1"):
        tasks([photographs], Evaluation(), digits, None, "mine")
    large = make_record(dataset=Dataset("fashion_mnist", 28), backbone=Backbone("resnet18", 16))
    with pytest.raises(UserError, match=r"--dataset digits: resnet18 .* takes images of 16 to 96 pixels, not 8"):
        tasks([large], Evaluation(), digits, None, "mine")


def test_cells_of_a_worker_that_dies_are_named(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = tasks([make_record(), make_record(seed=1)], Evaluation(), None, None, "mine")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    ended = list(run(todo, Evaluation(), Slots(1, 1, "cpu"), tmp_path / "evaluate.log"))
    assert [item.task for item in ended] == todo
    assert all(
        item.error.startswith("the evaluation ended early: the process ended by itself with exit code 1")
        for item in ended
    )
