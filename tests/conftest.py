"""Every test has a cache and a machine of its own, and one thread: sums in another order have other last digits."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from harness.catalog.losses import LOSSES
from harness.cell import Backbone, Cell, Dataset, Head, Optimizer, Views
from harness.datasets import find
from harness.evaluation import Evaluation
from harness.store import signs_of_life
from harness.store.record import Record
from harness.store.submission import RunConfig, Submission
from tests.support.tiny import TINY

# What an example takes depends on what else the machine does.
hypothesis.settings.register_profile("harness", deadline=None)
hypothesis.settings.load_profile("harness")

#: Folders of tests/ whose tests are all of one tier; the tiers of other tests are marked in their modules.
TIERS = ("faults", "slurm")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in a tier's folder, before ``-m`` selects by the marks."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in TIERS:
            item.add_marker(folder)


def pytest_collection_finish() -> None:
    """Take what collection has made out of the garbage collector's sight: it lives as long as the tests.

    statsmodels collects garbage in every call of Holm's procedure, which took half a second among 4,000 tests.
    """
    gc.collect()
    gc.freeze()


#: The parts of the cache that the tests of a run may share: what cells cost on this machine, and MLflow's empty store.
#: Each is made once in a run, by whichever worker needs it first.
SHARED = ("costs", "stores")


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared-cache"
    for name in SHARED:
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache; tests of the slow tiers share parts of it, but for those that test the measuring."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_TRACKING_URI", raising=False)  # no test writes to a developer's server
    runtime = request.getfixturevalue("tmp_path_factory").mktemp("runtime")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))  # tests that run side by side wait for no cores
    marks = {mark.name for mark in request.node.iter_markers()}
    if marks & {"e2e", "faults", "ranks"} and "own_costs" not in marks:
        (tmp_path / "cache" / "harness").mkdir(parents=True)
        for name in SHARED:
            (tmp_path / "cache" / "harness" / name).symlink_to(request.getfixturevalue("shared_cache") / name)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that lets a heartbeat stand still in this process does not wait until that is sure."""
    monkeypatch.setattr(signs_of_life, "WATCH_SECONDS", 0.0)


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
        record.submit(Submission(RunConfig(evaluation=Evaluation(**evaluation))))
        return record

    return make
