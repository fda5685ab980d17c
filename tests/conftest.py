"""Every test has a cache and a machine of its own, and one thread: sums in another order have other last digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from harness.catalog.losses import LOSSES
from harness.cell import Backbone, Cell, Dataset, Head, Optimizer, Views
from harness.dataset_files import find
from harness.store.record import Record

TINY = """
defaults:
  - schema
  - dataset: digits
  - backbone: convnet
  - method: simclr
  - optimizer: sgd
  - evaluate: solo_learn
  - cluster: local
  - _self_
title: A tiny study
question: Is DCL more robust?
scale: demo
backbone:
  width: 4
axes:
  loss: [infonce, dcl]
  batch_size: [64, 256]
  temperature: [0.1]
  epochs: [1]
  seed: [0, 1, 2]
claims:
  - name: dcl-robust
    says: DCL loses less accuracy than InfoNCE when the batch shrinks.
    source: nowhere
    measure: drop
    arms: [loss=dcl, loss=infonce]
    over: batch_size
scales:
  demo: {}
  wide:
    backbone.width: 8
  big:
    backbone: resnet18
    axes:
      epochs: [2]
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))  # tests that run side by side wait for no cores
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _the_catalogue_as_it_was() -> Iterator[None]:
    """Losses that a test registers are gone after it."""
    before = dict(LOSSES)
    yield
    LOSSES.clear()
    LOSSES.update(before)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """An experiment file that trains in seconds."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def make_record(tmp_path: Path) -> Callable[..., Record]:
    """A prepared record of a small cell on digits; fields of the cell as keywords."""

    def make(folder: str = "runs", every: int = 1, **fields: object) -> Record:
        defaults: dict[str, object] = {
            "dataset": Dataset("digits", 8, 0.1, find("digits", None).fingerprint),
            "views": Views(crop_min=0.5, flip=0.0),
            "backbone": Backbone("convnet", 4),
            "head": Head(16, 16),
            "optimizer": Optimizer(lr=0.1),
            "batch_size": 64,
            "epochs": 2,
        }
        cell = Cell(**{**defaults, **fields})  # type: ignore[arg-type]
        record = Record.prepare(tmp_path / folder, cell)
        evaluation = {"knn_k": 20, "knn_temperature": 0.07, "penalty": 1e-4, "every": every, "curve_bank": 500}
        record.submit({"threads": 1, "device": "cpu", "root": None, "evaluation": evaluation})
        return record

    return make
